"""ModelManager: fetches and removes the files of models when a user asks for it."""

from __future__ import annotations

import asyncio
import logging
from threading import Event

from imagegen.engines.base import EngineError
from imagegen.jobs.manager import JobManager
from imagegen.models import removal
from imagegen.models.catalog import Catalog, missing_sentence
from imagegen.models.download.background import Fetcher
from imagegen.models.download.hub import Hub, HubError
from imagegen.models.download.plan import Plan, check_disk
from imagegen.models.download.plan import plan as plan_download
from imagegen.models.download.retry import FetchError, RetryPolicy
from imagegen.models.entry_files import CatalogError
from imagegen.models.licences import question
from imagegen.models.weights import Weights
from imagegen.schemas import Refused
from imagegen.settings import Settings
from imagegen.worker.loop import Worker
from imagegen.worker.model_files import ModelFiles

log = logging.getLogger("imagegen.models")


class ModelManager:
    """Fetches and removes models on request. Call only from the event loop's thread."""

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        jobs: JobManager,
        worker: Worker,
        model_files: ModelFiles,
        fetcher: Fetcher,
    ) -> None:
        self._settings, self._catalog, self._jobs = settings, catalog, jobs
        self._worker, self._model_files, self._fetcher = worker, model_files, fetcher
        self._fetches: dict[str, asyncio.Task[None]] = {}  # by model: the requested downloads
        self._errors: dict[str, str] = {}  # by model: why the last requested download failed

    # ---- fetching -----------------------------------------------------------------------------

    async def plan(self, name: str) -> Plan:
        """Ask the hub what a download of `name` would bring; an empty plan if nothing is missing.

        Raises Refused 422 `unknown_model`, `not_supported_by_model`, `model_missing`; 503 `fetch_failed`.
        """
        entry = self._fetchable(name)
        if not entry.missing(self._settings) and not entry.absent(self._settings):
            return Plan()
        try:
            return await asyncio.to_thread(self._ask_hub, entry)
        except (HubError, FetchError) as failed:
            raise Refused(503, "fetch_failed", f"{name} cannot be fetched now. {failed}") from None

    def _fetchable(self, name: str) -> Weights:
        """The entry, if its missing files are on a hub."""
        entry = self._catalog.weights(name)
        if entry.made_by is not None:
            detail = f"{name} is on no hub: it is made on this machine when it is first used."
            raise Refused(422, "not_supported_by_model", detail)
        if any(file.repo is None for file in entry.missing(self._settings)):
            raise Refused(422, "model_missing", missing_sentence(entry, self._settings))
        return entry

    def _ask_hub(self, entry: Weights) -> Plan:
        once = RetryPolicy(lambda _trouble, _seconds: None, Event(), tries=1)
        found = plan_download(entry, self._settings, Hub(), once)
        check_disk(found.items)
        return found

    async def fetch(self, name: str, accept_licence: bool) -> Plan:
        """Begin to download `name`, unless nothing is missing or a requested download runs. Returns the plan.

        Raises Refused as `plan` does, and 422 `licence_not_accepted` for a licence that must be accepted.
        """
        found = await self.plan(name)
        entry = self._catalog.weights(name)
        asked = question(entry, found.licences)
        if found.items and asked is not None and not accept_licence:
            raise Refused(422, "licence_not_accepted", f"{asked} Then send accept_licence: true.")
        if found.items and name not in self._fetches:
            self._errors.pop(name, None)
            task = asyncio.create_task(self._run(entry, accept_licence), name=f"requested fetch {name}")
            self._fetches[name] = task
        return found

    async def _run(self, entry: Weights, accepted: bool) -> None:
        try:
            await self._fetcher.have(entry, lambda _progress: None, accepted)
        except EngineError as failed:
            self._errors[entry.name] = failed.detail
        finally:
            if self._fetches.get(entry.name) is asyncio.current_task():
                del self._fetches[entry.name]
            self._jobs.changes.notify("engine")

    def stop_fetch(self, name: str) -> None:
        """Stop the download of `name`, if one runs. What has come is kept. Raises Refused 422."""
        self._catalog.weights(name)
        self._errors.pop(name, None)
        if (task := self._fetches.pop(name, None)) is not None:
            task.cancel()
        self._fetcher.cancel(name)

    def is_fetching(self, name: str) -> bool:
        """Whether a download of `name` runs, requested or not."""
        return name in self._fetches or self._fetcher.is_running(name)

    def fetch_error(self, name: str) -> str | None:
        """Why the last requested download of `name` failed; None if it did not."""
        return self._errors.get(name)

    # ---- removing -----------------------------------------------------------------------------

    async def held(self, name: str) -> removal.Removal:
        """What `remove` deletes and keeps. Raises Refused 422."""
        entry = self._catalog.weights(name)
        try:
            return await asyncio.to_thread(self._plan_removal, entry)
        except CatalogError as wrong:
            raise Refused(422, "invalid_request", f"A model's entry was changed and has an error. {wrong}") from None

    def _plan_removal(self, entry: Weights) -> removal.Removal:
        everything = Catalog.load(self._settings)  # also entries that this service does not offer
        return removal.plan(entry, [*everything.entries(), *everything.upscalers()], self._settings)

    async def remove(self, name: str) -> tuple[removal.Removal, int]:
        """Unload `name` if it is loaded, then delete its files. Returns the plan and the freed bytes.

        Raises Refused 409 `busy` while a job needs the model or a download runs, 422, OSError.
        """
        if self.is_fetching(name):
            raise Refused(409, "busy", f"{name} is being downloaded. Stop that download first.")
        if any(job.model == name for job in self._jobs.active()):
            raise Refused(409, "busy", f"A job that waits or runs needs {name}. Cancel it, or try again later.")
        with self._model_files.removing(name):  # no job is admitted, and no load begins
            todo = await self.held(name)
            if todo.removed and self._worker.view().model == name:
                await self._worker.unload()
            freed = await asyncio.to_thread(removal.remove, todo, self._settings) if todo.removed else 0
        log.info("removed model=%s files=%d bytes=%d", name, len(todo.removed), freed)
        self._jobs.changes.notify("engine")
        return todo, freed

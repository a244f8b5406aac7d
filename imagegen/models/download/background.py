"""Fetcher: the service's downloads. Each runs in a thread. Jobs that need its files wait and get its progress."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event
from typing import Literal

from imagegen.engines.base import EngineError
from imagegen.models.download.fetch import fetch
from imagegen.models.download.hub import Hub, is_offline
from imagegen.models.download.plan import WITHOUT, Plan
from imagegen.models.download.progress import Fetching
from imagegen.models.download.retry import FetchError, FetchStopped
from imagegen.models.licences import forbids_commercial
from imagegen.models.weights import Weights
from imagegen.settings import Settings

log = logging.getLogger("imagegen.fetch")

TELL_EVERY_S, LOG_EVERY_S, RING_EVERY_S = 0.25, 30.0, 1.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 30.0, 600.0
"""First and longest pause before the service retries a download that it started itself. The pause doubles."""
Policy = Literal["auto", "on", "off"]


def may_fetch(entry: Weights, policy: Policy, is_default: bool, has_gpu: bool) -> bool:
    """Whether the service fetches `entry` without a request from the user.

    `auto` allows only the default model, and only with a GPU. No policy allows a model whose licence is not known to
    permit commercial use, a model that is on no hub, or any download in offline mode.
    """
    if policy == "off" or (policy == "auto" and not (is_default and has_gpu)):
        return False
    on_hub = all(file.repo is not None for file in entry.files if not file.optional)
    return on_hub and entry.licence.commercial is True and not is_offline()


def only_free(entry: Weights, todo: Plan) -> None:
    """Remove items with a non-commercial licence from `todo`, because no user is present to accept the licence.

    Raises FetchError if the model needs such an item.
    """
    for repo, stated in todo.licences.items():
        theirs = [item for item in todo.items if item.repo == repo]
        if not theirs or not forbids_commercial(stated):
            continue
        sentence = (
            f"The hub gives {repo} under {stated}, which does not allow commercial use, so the service does not fetch "
            f"it by itself. Read that licence; if you accept it: imagegen models fetch {entry.name}"
        )
        if not all(item.optional for item in theirs):
            raise FetchError(sentence)
        todo.items = [item for item in todo.items if item.repo != repo]
        todo.remarks.append(f"{sentence}. {WITHOUT}")


@dataclass
class _Download:
    """A running download.

    kept: continue without listeners and after a failure. accepted: a user accepted the licence. outcome: None once the
    model's required files are complete, else the error. Each try has a new `outcome`.
    """

    stop: Event
    outcome: asyncio.Future[FetchError | None]
    task: asyncio.Task[None] | None = None
    kept: bool = False
    accepted: bool = False
    wanted: asyncio.Event = field(default_factory=asyncio.Event)
    listeners: list[Callable[[Fetching], None]] = field(default_factory=list)
    latest: Fetching | None = None
    logged_at: float = 0.0

    def hear(self, name: str, now: Fetching) -> None:
        self.latest = now
        for listener in self.listeners:
            listener(now.seen(time.monotonic()))
        if time.monotonic() - self.logged_at >= LOG_EVERY_S:
            self.logged_at = time.monotonic()
            log.info("fetching model=%s done=%d total=%d: %s", name, now.done_bytes, now.total_bytes, now)

    def tell(self, outcome: FetchError | None) -> None:
        if not self.outcome.done():
            self.outcome.set_result(outcome)


class Fetcher:
    """Fetches models for the service. Call only from the event loop's thread. Calls `changed` on progress."""

    def __init__(self, settings: Settings, changed: Callable[[], None] = lambda: None) -> None:
        self._settings, self._changed = settings, changed
        self._running: dict[str, _Download] = {}  # by model
        self._begun: set[str] = set()
        self._rung_at = 0.0

    def begin(self, entry: Weights) -> None:
        """Fetch `entry`, with or without a waiting job, until it is complete or the service stops.

        Repeated calls for the same entry have no effect.
        """
        if entry.name in self._begun:
            return
        self._begun.add(entry.name)
        running = self._running.get(entry.name)
        if running is None or running.stop.is_set():
            running = self._start(entry)
        running.kept = True

    async def have(self, entry: Weights, told: Callable[[Fetching], None], accepted: bool = False) -> None:
        """Wait until `entry` is fetched. Starts a download if none runs. accepted: a user accepted its licence.

        A download that `begin` did not start stops when its last listener leaves. Raises EngineError `fetch_failed`.
        During a temporary error it waits as long as the service retries.
        """
        while (running := self._running.get(entry.name)) is not None and running.stop.is_set():
            assert running.task is not None
            await asyncio.wait([running.task])  # an earlier download that is stopping
        running = running or self._start(entry, accepted)
        running.wanted.set()
        running.listeners.append(told)
        if running.latest is not None:
            told(running.latest.seen(time.monotonic()))
        try:
            failed = await asyncio.shield(running.outcome)
        finally:
            running.listeners.remove(told)
            if not running.listeners and not running.kept:
                running.stop.set()
        if failed is not None:
            raise EngineError("fetch_failed", str(failed))

    def view(self, model: str | None = None) -> tuple[str, Fetching] | None:
        """The model and progress of the download of `model`, else of any running download."""
        for name in sorted(self._running, key=lambda name: name != model):
            latest = self._running[name].latest
            if latest is not None:
                return name, latest.seen(time.monotonic())
        return None

    def needed(self, model: str) -> Fetching | None:
        """Progress of the download that `model` needs before it can be loaded. None if no such download runs."""
        running = self._running.get(model)
        if running is None or running.latest is None or running.outcome.done():
            return None
        return running.latest.seen(time.monotonic())

    def is_running(self, model: str) -> bool:
        """Whether a download of `model` runs, or has been stopped and not ended yet."""
        return model in self._running

    def is_coming(self, model: str) -> bool:
        """Whether a download of `model` runs that a job can wait for."""
        running = self._running.get(model)
        return running is not None and not running.stop.is_set()

    def cancel(self, model: str) -> None:
        """Stop the download of `model`, if one runs. Jobs that wait for it fail. Received bytes are kept."""
        running = self._running.get(model)
        if running is not None:
            running.stop.set()

    def begin_stop(self) -> None:
        """Stop all downloads. Received bytes are kept, and the next start resumes."""
        for running in self._running.values():
            running.stop.set()

    async def stop(self) -> None:
        """`begin_stop`, then wait until they have ended."""
        self.begin_stop()
        tasks = [running.task for running in self._running.values() if running.task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, entry: Weights, accepted: bool = False) -> _Download:
        running = _Download(Event(), asyncio.get_running_loop().create_future(), accepted=accepted)
        running.latest = Fetching("", 0, 0)  # readers see that it has begun
        self._running[entry.name] = running
        running.task = asyncio.create_task(self._run(entry, running), name=f"fetch {entry.name}")
        running.task.add_done_callback(lambda task: self._ended(entry.name, task))
        return running

    async def _run(self, entry: Weights, running: _Download) -> None:
        """Retry until the download is complete. A download that only a job started gets one call of `fetch`."""
        pause_s = FIRST_PAUSE_S
        while True:
            running.wanted.clear()
            try:
                todo = await self._fetch(entry, running)
            except FetchError as failed:
                if not running.kept:
                    raise
                trouble = failed.passing or str(failed).rstrip(".")
                if not failed.passing:  # waiting jobs fail now; a later job starts a new try
                    running.tell(failed)
                    running.outcome = asyncio.get_running_loop().create_future()
            else:
                running.tell(None)
                if not (running.kept and todo.again):
                    return
                trouble = todo.again
            log.warning("model %s: %s; the next try is in %.0f s", entry.name, trouble, pause_s)
            await self._rest(entry.name, running, trouble, pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _rest(self, name: str, running: _Download, trouble: str, pause_s: float) -> None:
        """Wait for the next try, or until a job needs the model. Raises FetchStopped."""
        far = running.latest or Fetching("", 0, 0)
        resting = Fetching(far.file, far.done_bytes, far.total_bytes, None, trouble, pause_s)
        until = time.monotonic() + pause_s
        while time.monotonic() < until and not running.wanted.is_set():
            if running.stop.is_set():
                raise FetchStopped
            self._hear(name, running, resting)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(running.wanted.wait(), TELL_EVERY_S)

    async def _fetch(self, entry: Weights, running: _Download) -> Plan:
        latest: list[Fetching] = []  # at most one: the thread writes, the event loop reads

        def tell(now: Fetching) -> None:
            latest[:] = [now]

        def agree(todo: Plan) -> None:
            if not running.accepted:
                only_free(entry, todo)

        def work() -> Plan:
            return fetch(entry, self._settings, Hub(), tell, running.stop, agree)

        task = asyncio.create_task(asyncio.to_thread(work))
        while not task.done():
            await asyncio.wait([task], timeout=TELL_EVERY_S)
            for now in latest:
                self._hear(entry.name, running, now)
        todo = task.result()
        for remark in todo.remarks:
            log.warning("model %s: %s", entry.name, remark)
        return todo

    def _hear(self, name: str, running: _Download, now: Fetching) -> None:
        running.hear(name, now)
        if time.monotonic() - self._rung_at >= RING_EVERY_S:
            self._rung_at = time.monotonic()
            self._changed()

    def _ended(self, name: str, task: asyncio.Task[None]) -> None:
        running = self._running.pop(name)
        failure = None if task.cancelled() else task.exception()
        if isinstance(failure, FetchError):
            running.tell(failure)
        else:
            running.tell(None if failure is None else FetchError("The download was stopped; what has come is kept."))
        if failure is None:
            log.info("fetched model=%s", name)
        elif isinstance(failure, FetchStopped):
            log.info("the download of %s was stopped; what has come is kept", name)
        else:
            log.error("model %s was not fetched: %s", name, failure)
        self._changed()

"""App: creates the components of the service, and starts and stops them in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import IO

import psutil
from sqlalchemy.exc import DBAPIError

from imagegen.admission.controller import AdmissionController
from imagegen.hardware import compatibility, gpu, memory_fit
from imagegen.hardware.gpu_sharing import GpuSharing
from imagegen.hardware.memory_fit import MemoryFit
from imagegen.hardware.needs_table import NeedsTable
from imagegen.idle.tracker import IdleTracker
from imagegen.images.boards import Boards
from imagegen.images.conversions import Conversions
from imagegen.images.files import ImageFiles
from imagegen.images.provenance.reader import Reader
from imagegen.images.provenance.signer import Signer
from imagegen.images.store import ImageStore
from imagegen.jobs.durations import Durations
from imagegen.jobs.keeping import Keeper
from imagegen.jobs.manager import JobManager
from imagegen.jobs.measurements import Measurements
from imagegen.jobs.webhooks import Webhooks
from imagegen.models.aliases import Aliases
from imagegen.models.catalog import Catalog
from imagegen.models.download.background import Fetcher
from imagegen.models.loras.folder import LoraFolder
from imagegen.prompts.guardrails import Guardrails
from imagegen.schemas import Job
from imagegen.security.webhook_targets import Targets
from imagegen.settings import Settings
from imagegen.storage.database import StateError, lock_state_folder, open_database, storage_failure
from imagegen.storage.errors import StorageError
from imagegen.storage.notes import Notes
from imagegen.telemetry.recorder import Recorder
from imagegen.worker.engine_factory import EngineFactory, built_engine
from imagegen.worker.eta import EtaEstimator
from imagegen.worker.loop import Worker
from imagegen.worker.model_files import ModelFiles
from imagegen.worker.model_manager import ModelManager
from imagegen.worker.processor import ImageProcessor
from imagegen.worker.watchdog import Timing

log = logging.getLogger("imagegen")

SWEEP_EVERY_S = 10.0


class App:
    """All components behind the transports. One per process; call `start` once and `stop` once."""

    def __init__(
        self,
        settings: Settings,
        recorder: Recorder | None = None,
        gpu_sharing: GpuSharing | None = None,
        clock: Callable[[], float] = time.monotonic,
        message: Callable[[App, Job], bytes] | None = None,
        lost: Callable[[str], None] | None = None,
    ) -> None:
        """clock: the worker's clock for idle time, in seconds. message: a webhook's body; None: none is sent.

        lost: ends the process, for the reason that it is given, after another service has taken the database.
        """
        self.settings, self._clock, self._message, self._lost = settings, clock, message, lost
        self._gpu_sharing = gpu_sharing or GpuSharing(
            partial(gpu.read, settings), settings, lambda: built_engine(settings), partial(gpu.problem, settings)
        )
        self._recorder = recorder or Recorder()
        self.stopping = asyncio.Event()
        self.started_at = time.time()
        self.present = 0  # number of readers of /api/events?presence=1 (open pages)
        self._lock: IO[bytes] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Lock the state folder, recover the queue, and start the worker.

        Raises StateError, SettingsError, CatalogError or PolicyError; each message is a sentence.
        """
        self._lock = await asyncio.to_thread(lock_state_folder, self.settings.home)
        await self._configure()
        await self._open_state()
        await self._make_parts()
        await self._recover()
        self.model_files.fetch_lacking(self.default_entry)
        self._tasks = [
            asyncio.create_task(self.worker.run(), name="worker"),
            asyncio.create_task(self._sweep(), name="sweep"),
        ]
        if (message := self._message) is not None:
            hooks = Webhooks(self.database, self.jobs, self.targets, lambda job: message(self, job))
            self._tasks.append(asyncio.create_task(hooks.run(), name="webhooks"))
        self._tasks.append(asyncio.create_task(self._watch_database(), name="database"))
        for trouble in await asyncio.to_thread(self.model_files.troubles):
            log.warning("%s: %s", trouble.code, trouble.detail)
        log.info("ready model=%s gpu=%s", self.default_entry.name, self.gpu_seen is not None)

    async def _configure(self) -> None:
        """Read the catalog, the policy file and the aliases, and detect the GPU."""
        s = self.settings
        if s.database_url is None and not await asyncio.to_thread(s.database.exists):
            log.info("a new state folder: no job, picture or certificate is in it")  # an old one may be expected
        self.catalog = Catalog.offered(s)
        self.guardrails = Guardrails.load(s.policy_file)
        self.targets = Targets.of(s)
        self.gpu_seen = await asyncio.to_thread(gpu.read, s)
        self._gpu_sharing.seen |= self.gpu_seen is not None
        self.default_entry = self.catalog.default(s, has_gpu=gpu.is_card(self.gpu_seen))
        self.aliases = Aliases(s.model_aliases, self.catalog.names(), self.default_entry.name)

    async def _open_state(self) -> None:
        """Open the contents of the state folder: the database, pictures, jobs and measurements."""
        s = self.settings
        self.database = await open_database(s.database, s.database_url)
        self.durations = Durations()
        self.idle = IdleTracker(
            s.idle_timeout,
            min_s=s.idle_min_s,
            max_s=s.idle_max_s,
            knob=s.idle_knob,
            available_bytes=lambda: psutil.virtual_memory().available,
        )
        self.measurements = Measurements(self.database, Notes(self.database), self.durations, self.idle)
        files_bytes = memory_fit.files_bytes(self.default_entry, s)
        await self.measurements.read(self.default_entry.name, files_bytes)
        self.memory_needs = NeedsTable(self.database, self._gpu_sharing.needs)
        await self.memory_needs.read()
        files = self._image_files()
        self.images = ImageStore(self.database, files, ttl_s=s.image_ttl)
        self.signer = Signer(s) if s.provenance == "c2pa" else None
        if self.signer is not None:
            await asyncio.to_thread(self.signer.check)
        self.conversions = Conversions(self.images, files, self.signer)
        self.jobs = JobManager(
            self.database,
            self.images,
            max_queue=s.max_queue,
            max_queue_per_token=s.max_queue_per_token,
            ttl_s=s.image_ttl,
            recorder=self._recorder,
        )
        self.keeper = Keeper(self.database, self.images, self.jobs.changes, max_kept=s.keep_max, ttl_s=s.image_ttl)
        self.boards = Boards(self.database)

    async def _make_parts(self) -> None:
        """Create the components that handle jobs: the worker with its engines, the estimator, admission."""
        s = self.settings
        machine = await asyncio.to_thread(compatibility.look_at_machine, s, self.gpu_seen)
        self.fetcher = Fetcher(s, lambda: self.jobs.changes.notify("engine"))
        fit = MemoryFit(s, self.catalog.entries, self._gpu_sharing.needs)
        self.model_files = ModelFiles(
            s, self.default_entry, self.gpu_seen, machine, self.fetcher, fit, self._gpu_sharing
        )
        self.loras = LoraFolder(s)
        self.provenance = Reader()
        processor = ImageProcessor(self.images, self.guardrails, self.catalog, self.loras, s, self.signer)
        self.worker = Worker(
            self.jobs,
            processor,
            self.durations,
            self.idle,
            Timing(s.max_job_s, s.stall_s, s.shutdown_grace_s),
            EngineFactory(s, self.catalog, self.model_files, self._gpu_sharing),
            self.measurements,
            self.memory_needs,
            self._recorder,
            self._clock,
        )
        self.model_manager = ModelManager(s, self.catalog, self.jobs, self.worker, self.model_files, self.fetcher)
        self.estimator = EtaEstimator(self.jobs, self.durations, self.worker, self.fetcher.needed)
        self.admission = AdmissionController(
            s,
            self.catalog,
            self.guardrails,
            self.images,
            self.jobs,
            self.durations,
            self.default_entry.name,
            self.model_files,
            self.loras,
        )

    async def _recover(self) -> None:
        """Recover the jobs of the last process, and delete orphaned files and expired pictures. Raises StateError."""
        try:
            await self.jobs.recover()
            await self.images.sweep_orphans()
            await self.jobs.sweep()
        except (DBAPIError, StorageError) as failure:
            home = self.settings.home
            raise StateError(f"The state folder {home} cannot be used. {storage_failure(failure)}") from None

    def begin_stop(self) -> None:
        """Refuse new jobs, end long polls and event streams, and start the running picture's grace period."""
        if self._tasks and not self.stopping.is_set():
            self.stopping.set()
            self.jobs.close()
            self.worker.stop()
            self.fetcher.begin_stop()
            log.info("stopping")

    async def stop(self) -> None:
        """Call `begin_stop`, wait for the worker to end the engine, and unlock the state folder. Idempotent."""
        if self._lock is None:
            return
        self.begin_stop()
        if self._tasks:
            running, *others = self._tasks
            await asyncio.gather(running, return_exceptions=True)
            await self.fetcher.stop()
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            with contextlib.suppress(DBAPIError):  # already logged; the next start draws these jobs again
                await self.jobs.save_ends()
            await self.measurements.keep_idle()
            await self.database.close()
        self._lock.close()
        self._lock = None
        log.info("stopped")

    def _image_files(self) -> ImageFiles:
        try:
            return ImageFiles(self.settings.images_dir)
        except StorageError as failure:
            raise StateError(f"The folder {self.settings.images_dir} cannot be made. {failure}") from None

    def look_on(self, more: int) -> None:
        """Add `more` (may be negative) to the number of open pages, which keep the model loaded longer."""
        self.present += more
        if self.idle.present != (self.present > 0):
            self.idle.present = self.present > 0
            self.worker.commands.ring()  # the worker recomputes the time of the unload
            self.jobs.changes.notify("engine")  # readers see the new time

    async def _watch_database(self) -> None:
        """End the process when another service has taken the database: what it writes is lost."""
        await self.database.lost.wait()
        if self._lost is not None:
            self._lost("Another service has taken the database of IMAGEGEN_DATABASE_URL, so this one stops.")

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            try:
                await self.jobs.sweep()
            except (DBAPIError, StorageError) as failure:
                log.warning("sweeping is put off: %s", storage_failure(failure))
            except Exception:  # if this loop ended, expired pictures would stay for ever
                log.exception("an error of the service while sweeping")

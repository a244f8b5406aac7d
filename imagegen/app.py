"""App: the parts of the service, put together, started in order and stopped in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import psutil
from sqlalchemy.exc import DBAPIError

from imagegen import engine_build
from imagegen.admission.controller import AdmissionController
from imagegen.engine_build import probe
from imagegen.engines.base import Adapter, EngineError
from imagegen.engines.glm.adapter import GlmImageAdapter
from imagegen.engines.sdcpp import flags as sdcpp_flags
from imagegen.engines.sdcpp.adapter import SdcppServerAdapter
from imagegen.engines.sdcpp.channel import VERSION as CHANNEL_VERSION
from imagegen.hardware import compatibility, gpu
from imagegen.hardware.gpu_sharing import GpuSharing
from imagegen.idle.tracker import IdleTracker
from imagegen.images.files import ImageFiles
from imagegen.images.store import ImageStore
from imagegen.jobs.durations import Durations, Measurement
from imagegen.jobs.manager import JobManager
from imagegen.jobs.measurements import Measurements
from imagegen.models.catalog import Catalog, CatalogError, missing_sentence
from imagegen.models.download.background import Fetcher, may_fetch
from imagegen.models.download.fetch import Fetching
from imagegen.models.entry import Entry
from imagegen.models.packages import lacking, lacking_sentence, torch_uses_cuda
from imagegen.models.synthetic import make as synthetic
from imagegen.models.vocabulary import unknown_addition, unknown_subject
from imagegen.prompts.guardrails import Guardrails
from imagegen.schemas import Kind, Warn
from imagegen.settings import Settings
from imagegen.storage.database import StateError, lock_state_folder, open_database, storage_failure
from imagegen.storage.errors import StorageError
from imagegen.storage.notes import Notes
from imagegen.telemetry.recorder import Recorder
from imagegen.worker.eta import EtaEstimator
from imagegen.worker.lifecycle import EngineProvider
from imagegen.worker.loop import Worker
from imagegen.worker.prefetch import ReadAhead
from imagegen.worker.processor import ImageProcessor
from imagegen.worker.watchdog import Timing

log = logging.getLogger("imagegen")

SWEEP_EVERY_S = 10.0


class App:
    """Everything behind the transports. One per process; `start` once, `stop` once."""

    def __init__(
        self,
        settings: Settings,
        recorder: Recorder | None = None,
        gpu_sharing: GpuSharing | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """clock: the worker's, by which a model is idle."""
        self.settings, self._clock = settings, clock
        self._gpu_sharing = gpu_sharing or GpuSharing(gpu.read, settings, self._binary)
        self._recorder = recorder or Recorder()
        self.stopping = asyncio.Event()
        self.started_at = time.time()
        self.present = 0  # readers of /api/events?presence=1: pages that somebody has open
        self.fetcher = Fetcher(settings, lambda: self.jobs.changes.notify("engine"))
        self._lock: IO[bytes] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Claim the state folder, recover, and begin to work. Raises StateError, SettingsError, CatalogError
        or PolicyError with a sentence."""
        s = self.settings
        self._lock = await asyncio.to_thread(lock_state_folder, s.home)
        if not await asyncio.to_thread(s.database.exists):
            log.info("a new state folder: no job, picture or certificate is in it")  # an old one may be expected
        self.catalog = Catalog.offered(s)
        guardrails = Guardrails.load(s.policy_file)
        self.guardrails = guardrails
        self.gpu_seen = await asyncio.to_thread(gpu.read)
        self.default_entry = self.catalog.default(s, has_gpu=self.gpu_seen is not None)
        self.machine = await asyncio.to_thread(self._look)
        self.database = await open_database(s.database)
        self.notes = Notes(self.database)
        self.durations = Durations()
        self.measurements = Measurements(self.database, self.durations)
        await self.measurements.read()
        self.idle = IdleTracker(
            s.idle_timeout,
            min_s=s.idle_min_s,
            max_s=s.idle_max_s,
            knob=s.idle_knob,
            available_bytes=lambda: psutil.virtual_memory().available,
        )
        entry = self.default_entry
        self.idle.restore(await self.notes.read("idle"), entry.name, compatibility.files_bytes(entry, s))
        self.images = ImageStore(self.database, self._image_files(), ttl_s=s.image_ttl)
        self.jobs = JobManager(
            self.database,
            self.images,
            max_queue=s.max_queue,
            max_queue_per_token=s.max_queue_per_token,
            ttl_s=s.image_ttl,
            recorder=self._recorder,
        )
        processor = ImageProcessor(
            self.images,
            guardrails,
            self.catalog.get,
            lambda entry, speed: entry.request_options(s, speed),
            s.png_metadata,
        )
        self.worker = Worker(
            self.jobs,
            processor,
            self.durations,
            self.idle,
            Timing(s.max_job_s, s.stall_s, s.shutdown_grace_s),
            EngineProvider(
                self.catalog.get,
                self.prepare_files,
                self._adapter,
                self._fingerprint,
                lambda entry: compatibility.files_bytes(entry, s),
                self._read_ahead,
                self._gpu_sharing,
            ),
            self._measured,
            self._recorder,
            self._clock,
        )
        self.estimator = EtaEstimator(self.jobs, self.durations, self.worker, self.fetcher.needed)
        self.admission = AdmissionController(
            s,
            self.catalog,
            guardrails,
            self.images,
            self.jobs,
            self.durations,
            self.default_entry.name,
            self.misfits,
            self.unobtainable,
            self.unfamiliar,
        )
        self.jobs.on_submit, self.jobs.on_cancel = self.worker.commands.ring, self.worker.commands.cancel
        self.jobs.on_keep = self.worker.keep
        try:
            await self.jobs.recover()
            await self.images.sweep_orphans()
            await self.jobs.sweep()
        except (DBAPIError, StorageError) as failure:
            raise StateError(f"The state folder {s.home} cannot be used. {storage_failure(failure)}") from None
        if (entry.missing(s) or entry.absent(s)) and self.may_fetch(entry):
            self.fetcher.begin(entry)
        self._tasks = [
            asyncio.create_task(self.worker.run(), name="worker"),
            asyncio.create_task(self._sweep(), name="sweep"),
        ]
        for trouble in await asyncio.to_thread(self.troubles):
            log.warning("%s: %s", trouble.code, trouble.detail)
        log.info("ready model=%s gpu=%s", self.default_entry.name, self.gpu_seen is not None)

    def begin_stop(self) -> None:
        """Refuse new jobs, end long-polls and event streams, give the running picture its grace."""
        if self._tasks and not self.stopping.is_set():
            self.stopping.set()
            self.jobs.close()
            self.worker.stop()
            self.fetcher.begin_stop()
            log.info("stopping")

    async def stop(self) -> None:
        """`begin_stop`, then wait for the worker, end the engine, and let the state folder go. Idempotent."""
        if self._lock is None:
            return
        self.begin_stop()
        if self._tasks:
            running, sweep = self._tasks
            await asyncio.gather(running, return_exceptions=True)
            await self.fetcher.stop()
            sweep.cancel()
            await asyncio.gather(sweep, return_exceptions=True)
            with contextlib.suppress(DBAPIError):  # logged when it came; the next start draws these jobs again
                await self.jobs.save_ends()
            await self.notes.keep("idle", self.idle.dump())
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
        """So many more readers (or fewer) say that somebody is here: the model is kept a while longer for them."""
        self.present += more
        if self.idle.present != (self.present > 0):
            self.idle.present = self.present > 0
            self.worker.commands.ring()  # it decides anew when to unload
            self.jobs.changes.notify("engine")  # and readers are told

    # ---- the engine ---------------------------------------------------------------------------

    def _look(self) -> compatibility.Machine:
        """What a model has to fit. Blocks: it runs the engine's --help where that is not known yet."""
        try:
            binary = engine_build.resolve(self.settings)
            flags = sdcpp_flags.known_flags(probe.usage(binary))
            has_channel = probe.channel_version(binary) == CHANNEL_VERSION
        except engine_build.EngineBuildError as missing:  # told by the load that needs it, and by the doctor
            log.debug("the engine's flags are not known: %s", missing)
            flags, has_channel = frozenset(), True
        card = self.gpu_seen
        return compatibility.Machine(
            flags,
            card.name if card else None,
            card.total_bytes if card else None,
            psutil.virtual_memory().total,
            torch_uses_cuda(),
            has_channel,
        )

    def _binary(self) -> Path | None:
        try:
            return engine_build.resolve(self.settings)
        except engine_build.EngineBuildError:  # told by the load that needs it
            return None

    def _read_ahead(self, entry: Entry) -> ReadAhead:
        paths = entry.paths(self.settings) if self.settings.read_ahead else []
        return ReadAhead(paths, lambda: psutil.virtual_memory().available)

    def misfits(self, entry: Entry) -> tuple[Warn, ...]:
        """What is known to go wrong with `entry` here: for its jobs' warnings and the status."""
        return compatibility.warnings(entry, self.settings, self.machine)

    def unfamiliar(self, entry: Entry, kind: Kind, prompt: str) -> tuple[Warn, ...]:
        """What `entry` cannot draw of a prompt, as far as that is known: for its jobs' warnings.

        An edit's subject is in its picture; only what it adds can be unknown.
        """
        things = synthetic.things(entry)
        if things is None:
            return ()
        look = unknown_addition if kind is Kind.EDIT else unknown_subject
        unknown = look(entry.name, things, prompt)
        return () if unknown is None else (unknown,)

    def troubles(self) -> tuple[Warn, ...]:
        """What is known to be wrong here: with the default model, and with the GPU. Asks the driver: blocks."""
        found = list(self.misfits(self.default_entry))
        if without := compatibility.lacking_channel(self.default_entry, self.machine.has_channel):
            found.append(without)
        if needed := self.unobtainable(self.default_entry):
            found.append(Warn(code="model_missing", detail=needed))
        if doubt := gpu.problem():
            found.append(Warn(code="gpu_doubtful", detail=doubt))
        return tuple(found)

    def may_fetch(self, entry: Entry) -> bool:
        """Whether the service downloads `entry` by itself."""
        is_default = entry.name == self.default_entry.name
        return may_fetch(entry, self.settings.auto_fetch, is_default, self.gpu_seen is not None)

    def unobtainable(self, entry: Entry) -> str | None:
        """Why `entry` cannot be loaded unless somebody does something: its files are neither here nor to be had, or its
        engine's packages are not installed."""
        if (needed := lacking_sentence(entry)) is not None:
            return needed
        if entry.made_by is not None or not entry.missing(self.settings) or self.may_fetch(entry):
            return None
        return missing_sentence(entry, self.settings)

    async def prepare_files(self, entry: Entry, told: Callable[[Fetching], None]) -> None:
        """Have the model's files: make those that a script of ours makes, fetch what may be fetched.

        Raises EngineError `model_missing`, `fetch_failed`.
        """
        self.machine = await asyncio.to_thread(self._look)  # the engine may be another one than at the last load
        if (needed := self.unobtainable(entry)) is not None:
            raise EngineError("model_missing", needed)
        try:
            if await asyncio.to_thread(synthetic.to_make, entry, self.settings):
                await asyncio.to_thread(synthetic.make, entry.name, self.settings)
        except (OSError, CatalogError) as failure:
            raise EngineError("model_missing", f"The model {entry.name} could not be made: {failure}.") from None
        if entry.missing(self.settings):
            await self.fetcher.have(entry, told)
        elif entry.absent(self.settings) and self.may_fetch(entry):
            self.fetcher.begin(entry)  # nobody has to wait for what the model works without

    def _adapter(self, entry: Entry) -> Adapter:
        """Raises EngineError if the engine is not there."""
        s = self.settings
        threads = s.threads or psutil.cpu_count(logical=False) or 1
        workdir = s.home / "engine"
        if entry.adapter == "glm":
            return GlmImageAdapter(entry.folder(s), threads=threads, workdir=workdir, load_stall_s=s.load_timeout_s)
        try:
            binary = engine_build.resolve(s)
        except engine_build.EngineMissing as missing:
            raise EngineError("load_failed", str(missing)) from None
        argv = sdcpp_flags.adapt(entry.argv(s), self.machine.flags).argv
        try:
            return SdcppServerAdapter(
                binary,
                argv,
                threads=threads,
                workdir=workdir,
                load_stall_s=s.load_timeout_s,
                lora_dir=entry.lora_dir(s),
                loras=entry.lora_files(s),
                channel=self.machine.has_channel,
            )
        except ValueError as wrong:  # a flag of the operator's own catalog entry
            raise EngineError("load_failed", f"{entry.name} cannot be started: {wrong}") from None

    def _fingerprint(self, entry: Entry) -> object:
        """Changes when a file of the model, or the engine, does: then a failed load is worth another try."""
        marks: list[object] = []
        named = [entry.path_of(file, self.settings) for file in entry.files]  # one that is not there is a mark too
        for path in dict.fromkeys([*named, *entry.paths(self.settings)]):
            try:
                stat = path.stat()
                marks.append((str(path), stat.st_size, stat.st_mtime_ns))
            except OSError:
                marks.append((str(path), None))
        try:
            binary = engine_build.resolve(self.settings).stat()
            marks.append((binary.st_size, binary.st_mtime_ns))
        except (engine_build.EngineMissing, OSError):
            marks.append(None)
        return [*marks, lacking(entry.adapter)]

    async def _measured(self, new: Sequence[Measurement]) -> None:
        await self.measurements.learn(new)
        await self.notes.keep("idle", self.idle.dump())

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            try:
                await self.jobs.sweep()
            except (DBAPIError, StorageError) as failure:
                log.warning("sweeping is put off: %s", storage_failure(failure))
            except Exception:  # what ends this loop would keep expired pictures for ever
                log.exception("an error of the service while sweeping")

"""ModelLifecycle: the one model that is loaded, and the engine process that holds it. The worker alone calls it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from math import ceil
from typing import Any, Protocol

import psutil

from imagegen.engines.base import Adapter, EngineError, LoadProgress
from imagegen.hardware.gpu_sharing import GpuSharing
from imagegen.models.download.progress import Fetching
from imagegen.models.entry import Entry
from imagegen.schemas import EngineState, Failure, Refused
from imagegen.telemetry.recorder import Recorder
from imagegen.worker.commands import CommandQueue
from imagegen.worker.prefetch import ReadAhead

log = logging.getLogger("imagegen.engine")

FIRST_RETRY_S, LAST_RETRY_S = 30.0, 600.0
"""After a failed load the next try waits this long, doubling, unless the model's files change."""


class Stopped(Exception):
    """The service stops; a running job goes back into the queue, not counted."""


class LoadFailed(Exception):
    """The model could not be loaded; `error` says why."""

    def __init__(self, error: EngineError) -> None:
        super().__init__(str(error))
        self.error = error


class Cancelled(Exception):
    """The running job is no longer wanted."""


@dataclass(frozen=True)
class EngineView:
    """The engine's state as readers see it; times are POSIX seconds."""

    state: EngineState
    since: float
    model: str | None
    pid: int | None
    load: LoadProgress | None
    load_started: float | None
    error: Failure | None


class EngineProvider(Protocol):
    """How a model becomes an engine. See `EngineFactory`."""

    @property
    def gpu_sharing(self) -> GpuSharing: ...

    def find_model(self, name: str) -> Entry:
        """Raises Refused `unknown_model`."""

    async def prepare(self, entry: Entry, told: Callable[[Fetching], None]) -> None:
        """Have its files, made or fetched, and say how far that is. Raises EngineError if they cannot be had."""

    def make_adapter(self, entry: Entry) -> Adapter:
        """Raises EngineError if the engine is not there."""

    def fingerprint(self, entry: Entry) -> object:
        """Changes when a file of the model, or the engine, does."""

    def files_bytes(self, entry: Entry) -> int:
        """Size of the model's files."""

    def read_ahead(self, entry: Entry) -> ReadAhead:
        """Begin to fetch its files into the page cache."""


@dataclass(frozen=True)
class FailedLoad:
    """A model's last load failed: why, with which files, and when (monotonic) the next try may be."""

    failure: Failure
    fingerprint: object
    retry_at: float
    wait_s: float


class ModelLifecycle:
    """At most one engine process; `state` tells where it is in its life."""

    def __init__(
        self, parts: EngineProvider, commands: CommandQueue, changed: Callable[[], None], recorder: Recorder
    ) -> None:
        self._parts, self._commands, self._changed, self._recorder = parts, commands, changed, recorder
        self.state, self._since = EngineState.COLD, time.time()
        self.adapter: Adapter | None = None
        self.entry: Entry | None = None
        self._coming: Entry | None = None  # what is being loaded, though another model may still be there
        self._load: LoadProgress | None = None
        self._load_started: float | None = None
        self._error: Failure | None = None
        self._ahead_bytes = 0
        self._failures: dict[str, FailedLoad] = {}  # by model

    def view(self) -> EngineView:
        pid = self.adapter.pid if self.adapter else None
        entry = self._coming or self.entry
        model = entry.name if entry else None
        return EngineView(self.state, self._since, model, pid, self._load, self._load_started, self._error)

    def is_loaded(self, entry: Entry) -> bool:
        """Whether `entry` is loaded."""
        return self.adapter is not None and self.entry is not None and self.entry.name == entry.name

    def stays_loaded(self, model: str) -> bool:
        """Whether `model` is loaded and stays so as far as is known now."""
        staying = {EngineState.READY, EngineState.DRAWING, EngineState.DRAINING}
        return self.state in staying and self.entry is not None and self.entry.name == model

    def set_state(self, state: EngineState) -> None:
        """Note and tell a state; called by the worker's loop and from here."""
        if state is not self.state:
            self.state, self._since = state, time.time()
            log.info("engine %s", state.value)
            self._recorder.engine_entered(state)
            self._changed()

    async def prepare(
        self,
        entry: Entry,
        told: Callable[[LoadProgress | Fetching], None],
        unwanted: Callable[[], bool],
        *,
        room: bool = False,
    ) -> None:
        """What can be known and fetched before `load`: its files are here, and with `room` there is some on the GPU
        for it in the loaded model's place. A loaded model stays, whatever comes of it.

        Raises LoadFailed, Stopped, Cancelled like `load`.
        """
        self._coming, self._error, self._load, self._load_started = entry, None, None, None
        self.set_state(EngineState.LOADING)

        async def look() -> None:
            await self._parts.prepare(entry, told)
            if room:
                await self._parts.gpu_sharing.check_swap_fits(entry, self.adapter.pid if self.adapter else None)

        try:
            await self._attend(look(), unwanted)
        except BaseException as ended:
            self._coming = None
            self.set_state(EngineState.COLD if self.adapter is None else EngineState.READY)
            if isinstance(ended, EngineError):
                raise LoadFailed(ended) from None
            raise
        self._load_started = time.time()

    async def load(
        self,
        entry: Entry,
        told: Callable[[LoadProgress | Fetching], None],
        unwanted: Callable[[], bool],
        *,
        wait_for_room: bool = True,
    ) -> float:
        """After `have`: make `entry` the loaded model; seconds that it took, without those for a full GPU.

        unwanted: asked whenever something has come into the inbox, to answer it. Raises LoadFailed (`gpu_busy` at
        once if not `wait_for_room`), Stopped when the service stops, Cancelled when `unwanted()`; no process is left
        then.
        """
        await self.unload("another model is asked for")
        self.entry = entry
        began = time.monotonic()

        def heard(progress: LoadProgress) -> None:
            self._load = progress
            told(progress)

        async def start() -> None:
            nonlocal began
            self._load_started = time.time()
            ahead = self._parts.read_ahead(entry)
            try:
                waits = time.monotonic()
                await self._parts.gpu_sharing.wait_for_memory(
                    entry, lambda whom: heard(LoadProgress(0.0, waits_for=whom)), wait=wait_for_room
                )
                began += time.monotonic() - waits
                self.adapter = self._parts.make_adapter(entry)
                self._load, self._load_started = None, time.time()
                await self.adapter.start(heard)
            finally:
                await asyncio.to_thread(ahead.stop)
                self._ahead_bytes = ahead.from_storage_bytes

        try:
            await self._attend(start(), unwanted)
        except BaseException as ended:
            self._coming = None
            await self.unload("the load ended early")
            if isinstance(ended, EngineError):
                raise LoadFailed(ended) from None
            raise
        finally:
            self._coming = self._load = self._load_started = None
        seconds = time.monotonic() - began
        self._failures.pop(entry.name, None)
        log.info("engine loaded model=%s seconds=%.3f", entry.name, seconds)
        self._recorder.loaded(entry.name, seconds)
        return seconds

    async def _attend(self, work: Coroutine[Any, Any, None], unwanted: Callable[[], bool]) -> None:
        """Until `work` is done, or broken off; what comes into the inbox meanwhile is for `unwanted` to answer."""
        task = asyncio.create_task(work)
        try:
            while True:
                gone = unwanted()
                if task.done():
                    return task.result()
                if self._commands.stop_at is not None:
                    raise Stopped
                if gone:
                    raise Cancelled
                await self._commands.wait(None, [task])
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def unload(self, reason: str) -> None:
        """End the engine process and wait until it is gone; nothing to do without one."""
        adapter = self.adapter
        if adapter is not None:
            if self._coming is None:
                self.set_state(EngineState.UNLOADING)
            await adapter.stop()
            await self._parts.gpu_sharing.check_memory_released()
            log.info("engine unloaded reason=%r", reason)
            self._recorder.unloaded(reason)
        self.adapter = self.entry = None
        if self._coming is None and self.state is not EngineState.FAILED:
            self.set_state(EngineState.COLD)

    def read_bytes(self) -> int:
        """What was fetched from storage for the engine so far; 0 where the kernel does not tell."""
        pid = self.adapter.pid if self.adapter else None
        try:
            own = 0 if pid is None else int(psutil.Process(pid).io_counters().read_bytes)
        except (psutil.Error, OSError):
            own = 0
        return own + self._ahead_bytes

    # ---- after a failed load ------------------------------------------------------------------

    def record_failure(self, model: str, error: EngineError | Refused) -> Failure:
        """Note that `model` did not load; the next try waits. The reason, as the waiting jobs get it."""
        before = self._failures.get(model)
        wait_s = min(before.wait_s * 2, LAST_RETRY_S) if before else FIRST_RETRY_S
        failure = Failure(code=error.code, detail=error.detail)
        self._failures[model] = FailedLoad(failure, self._fingerprint(model), time.monotonic() + wait_s, wait_s)
        log.error("model %s did not load code=%s retry_s=%.0f", model, error.code, wait_s)
        if self.adapter is None:  # else another model is still there, and none of its business
            self._error = failure
            self.set_state(EngineState.FAILED)
        return failure

    def refusal(self, model: str) -> Refused | None:
        """What a warm-up is told that comes before the next try is due; None: try now."""
        wait_s = ceil(self.retry_in_s(model))
        if not wait_s:
            return None
        last = self._failures[model].failure
        return Refused(
            503,
            last.code,
            f"The model {model} did not load: {last.detail} The next try is due in {wait_s} s, or when a file of the "
            "model or the engine changes.",
            retry_after_s=wait_s,
        )

    def retry_in_s(self, model: str) -> float:
        """Seconds that a job for `model` has to wait after a failed load; 0: try now."""
        failed = self._failures.get(model)
        if failed is None:
            return 0.0
        if self._fingerprint(model) != failed.fingerprint:
            del self._failures[model]  # something was put right: a fresh start
            return 0.0
        return max(0.0, failed.retry_at - time.monotonic())

    def _fingerprint(self, model: str) -> object:
        try:
            return self._parts.fingerprint(self._parts.find_model(model))
        except Refused:
            return None

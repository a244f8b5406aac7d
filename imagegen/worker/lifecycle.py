"""ModelLifecycle: loads and unloads the one model and its engine process. Only the worker calls it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import psutil

from imagegen.engines.base import Adapter, EngineError, LoadProgress
from imagegen.hardware.memory_fit import usual_shape
from imagegen.hardware.memory_mode import MemoryMode, MemoryPlan, Shape
from imagegen.hardware.memory_watch import PeakWatch
from imagegen.idle.tracker import IdleTracker
from imagegen.jobs.notifications import Notifier
from imagegen.models.download.progress import Fetching
from imagegen.models.entry import Entry
from imagegen.schemas import EngineState, Failure, Warn
from imagegen.telemetry.recorder import Recorder
from imagegen.worker.commands import CommandQueue
from imagegen.worker.load_backoff import LoadBackoff
from imagegen.worker.memory_modes import MemoryModes, tried_again
from imagegen.worker.provider import EngineProvider

log = logging.getLogger("imagegen.engine")

IDLE = "idle"
"""The reason of unloads by the idle policy."""


class Stopped(Exception):
    """The service stops. The running job is queued again, and this start is not counted."""


class LoadFailed(Exception):
    """The model did not load; `error` has the reason."""

    def __init__(self, error: EngineError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True)
class Loaded:
    """The seconds that a load took, without waiting for free memory, and its warnings for the job."""

    seconds: float
    warnings: tuple[Warn, ...] = ()


class Cancelled(Exception):
    """The running job or warm-up was cancelled."""


@dataclass(frozen=True)
class EngineView:
    """A snapshot of the engine's state for readers; times are POSIX seconds."""

    state: EngineState
    since: float
    model: str | None
    pid: int | None
    load: LoadProgress | None
    load_started: float | None
    error: Failure | None
    plan: MemoryPlan | None


class ModelLifecycle:
    """Owns at most one engine process; `state` is its current state."""

    def __init__(
        self,
        provider: EngineProvider,
        memory: MemoryModes,
        commands: CommandQueue,
        backoff: LoadBackoff,
        idle: IdleTracker,
        changes: Notifier,
        recorder: Recorder,
        clock: Callable[[], float],
    ) -> None:
        """idle: records loads and unloads, in `clock` seconds."""
        self._provider, self.memory, self._commands, self._backoff = provider, memory, commands, backoff
        self._idle, self._changes, self._recorder, self._clock = idle, changes, recorder, clock
        self.state, self._since = EngineState.COLD, time.time()
        self.adapter: Adapter | None = None
        self.entry: Entry | None = None
        self._coming: Entry | None = None  # the model being loaded; another one may still be loaded
        self._load: LoadProgress | None = None
        self._load_started: float | None = None
        self._error: Failure | None = None
        self._ahead_bytes = 0
        self.plan: MemoryPlan | None = None  # how the loaded model is kept in memory; None without a card
        self._most_pixels = 0  # of a picture that this process has drawn

    def view(self) -> EngineView:
        pid = self.adapter.pid if self.adapter else None
        entry = self._coming or self.entry
        model = entry.name if entry else None
        load = self._load, self._load_started
        return EngineView(self.state, self._since, model, pid, *load, self._error, self.plan)

    def is_loaded(self, entry: Entry) -> bool:
        """Whether the loaded model is `entry`."""
        return self.adapter is not None and self.entry is not None and self.entry.name == entry.name

    def stays_loaded(self, model: str) -> bool:
        """Whether `model` is loaded and no unload or other load has begun."""
        staying = {EngineState.READY, EngineState.DRAWING, EngineState.DRAINING}
        return self.state in staying and self.entry is not None and self.entry.name == model

    def set_state(self, state: EngineState) -> None:
        """Set the state, log it and notify readers. Only the worker's loop and this class call it."""
        if state is not self.state:
            self.state, self._since = state, time.time()
            log.info("engine %s", state.value)
            self._recorder.engine_entered(state)
            self._changes.notify("engine")

    async def prepare(
        self,
        entry: Entry,
        on_progress: Callable[[LoadProgress | Fetching], None],
        unwanted: Callable[[], bool],
        *,
        room: bool = False,
    ) -> None:
        """Ensure the model's files exist and, with `room`, that it fits in VRAM. Never unloads the current model.

        `room` counts the current model's VRAM as free. Raises LoadFailed, Stopped, Cancelled like `load`.
        """
        self._coming, self._error, self._load, self._load_started = entry, None, None, None
        self.set_state(EngineState.LOADING)

        async def look() -> None:
            await self._provider.prepare(entry, on_progress)
            if room:
                fitting = await asyncio.to_thread(self._provider.fitting, entry, usual_shape(entry))
                pid = self.adapter.pid if self.adapter else None
                await self._provider.gpu_sharing.check_swap_fits(fitting, entry, pid)

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
        on_progress: Callable[[LoadProgress | Fetching], None],
        unwanted: Callable[[], bool],
        *,
        shape: Shape | None = None,
        at_least: MemoryMode | None = None,
        wait_for_room: bool = True,
    ) -> Loaded:
        """Load `entry` after `prepare`, in the fastest memory mode in which a picture of `shape` fits.

        shape: None for the model's usual picture. at_least: this mode or a tighter one.
        unwanted: called at each wake-up; answers the waiting commands and returns whether to cancel the load.
        Raises LoadFailed (`gpu_busy` at once if not `wait_for_room`), Stopped when the service stops, Cancelled when
        `unwanted()` is true. After an error no engine process is left.
        """
        await self.unload("another model or memory mode is needed")
        self.entry, self._most_pixels = entry, 0
        shape = shape or usual_shape(entry)
        began = time.monotonic()
        warnings: list[Warn] = []

        def heard(progress: LoadProgress) -> None:
            self._load = progress
            on_progress(progress)

        async def start() -> None:
            nonlocal began
            self._load_started = time.time()
            ahead = self._provider.read_ahead(entry)
            try:
                began += await self._start_in_some_mode(entry, shape, at_least, heard, wait_for_room, warnings)
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
        log.info("engine loaded model=%s seconds=%.3f", entry.name, seconds)
        self._recorder.loaded(entry.name, seconds)
        self._backoff.forget(entry.name)
        self._idle.loaded(entry.name, seconds, self._read_bytes(), self._provider.files_bytes(entry))
        return Loaded(seconds, tuple(warnings))

    async def _start_in_some_mode(
        self,
        entry: Entry,
        shape: Shape,
        at_least: MemoryMode | None,
        heard: Callable[[LoadProgress], None],
        wait_for_room: bool,
        warnings: list[Warn],
    ) -> float:
        """Start the engine, in a tighter memory mode if the memory runs out. Returns the seconds of waiting."""
        failed: MemoryPlan | None = None
        tries, waited_s = 0, 0.0
        while True:
            try:
                waited_s += await self._start(entry, shape, at_least, heard, wait_for_room)
            except EngineError as error:
                failed, tries = self.plan, tries + 1
                await self._end_engine()
                at_least = await self.memory.after_shortage(entry, shape, failed, error, tries=tries)
            else:
                if tries:
                    warnings.append(tried_again("loading the model", failed, self.plan))
                return waited_s

    async def _start(
        self,
        entry: Entry,
        shape: Shape,
        at_least: MemoryMode | None,
        heard: Callable[[LoadProgress], None],
        wait_for_room: bool,
    ) -> float:
        """Wait for room, then start the engine. Returns the seconds of the wait. Raises EngineError."""
        waits = time.monotonic()
        fitting = await asyncio.to_thread(self._provider.fitting, entry, shape)
        sharing = self._provider.gpu_sharing
        self.plan = await sharing.wait_for_memory(
            fitting,
            entry,
            lambda whom: heard(LoadProgress(0.0, waits_for=whom)),
            wait=wait_for_room,
            at_least=at_least,
        )
        waited_s = time.monotonic() - waits
        self.adapter = self._provider.make_adapter(entry, self.plan)
        self._load, self._load_started = None, time.time()
        if self.plan is not None:
            log.info("memory mode=%s model=%s: %s", self.plan.mode, entry.name, self.plan.why)
        await self.adapter.start(heard)
        return waited_s

    async def _attend(self, work: Coroutine[Any, Any, None], unwanted: Callable[[], bool]) -> None:
        """Run `work` to its end. Raises Stopped, or Cancelled when `unwanted()`, which also answers the commands."""
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
        """End the engine process and wait for its exit. Does nothing if there is no process."""
        if self.adapter is not None:
            if self._coming is None:
                self.set_state(EngineState.UNLOADING)
            await self._end_engine()
            log.info("engine unloaded reason=%r", reason)
            self._recorder.unloaded(reason)
            self._idle.unloaded(self._clock(), by_policy=reason == IDLE)
        self.adapter = self.entry = self.plan = None
        if self._coming is None and self.state is not EngineState.FAILED:
            self.set_state(EngineState.COLD)

    async def _end_engine(self) -> None:
        if self.adapter is not None:
            await self.adapter.stop()
            await self._provider.gpu_sharing.check_memory_released()

    def watch_memory(self) -> PeakWatch:
        """Measure what the engine takes while a picture is drawn."""
        return self._provider.gpu_sharing.watch(self.adapter.pid if self.adapter else None)

    async def learn_memory(self, shape: Shape, peak_bytes: int | None) -> None:
        """Store what a drawn picture took. A picture smaller than an earlier one of this process teaches nothing,
        because the engine keeps some of its memory."""
        if self.entry is None or not peak_bytes or shape.pixels_in_all < self._most_pixels:
            return
        self._most_pixels = shape.pixels_in_all
        await self.memory.learn(self.entry, shape, self.plan, peak_bytes)

    def _read_bytes(self) -> int:
        """Bytes read from storage for the engine so far; 0 if the kernel does not report it."""
        pid = self.adapter.pid if self.adapter else None
        try:
            own = 0 if pid is None else int(psutil.Process(pid).io_counters().read_bytes)
        except (psutil.Error, OSError):
            own = 0
        return own + self._ahead_bytes

    def failed(self, failure: Failure) -> None:
        """Note that a load ended with `failure`. The state stays as it is if another model is still loaded."""
        if self.adapter is None:
            self._error = failure
            self.set_state(EngineState.FAILED)

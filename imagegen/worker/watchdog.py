"""Watchdog: watches a picture while the engine draws it, and stops it when it must not go on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from imagegen.engines.base import INTERRUPTED, Adapter, DrawProgress, DrawRequest, EngineError, Preview
from imagegen.jobs.durations import Durations, cancel_by_kill
from imagegen.jobs.manager import JobManager
from imagegen.schemas import EngineState, Job, Phase, Progress
from imagegen.worker.commands import CommandQueue
from imagegen.worker.lifecycle import Cancelled, ModelLifecycle, Stopped
from imagegen.worker.previews import PreviewWriter
from imagegen.worker.progress import ProgressWriter

LEAST_STALL_S, STALL_FACTOR = 120.0, 10.0
"""A drawing engine may be silent for max(LEAST_STALL_S, STALL_FACTOR x the longest gap seen at this size)."""
LEAST_OBEY_S, OBEY_STEPS = 10.0, 3.0
"""An interrupted engine has max(LEAST_OBEY_S, OBEY_STEPS x a step) to let go of its picture; then D-05 decides."""
LOOK_AGAIN_S = 2.0
"""How often a cancelled picture that runs out is looked at."""


@dataclass(frozen=True)
class Timing:
    """The bounds of a job, in seconds; `stall_s` None: learned from the engine's past."""

    max_job_s: float
    stall_s: float | None
    shutdown_grace_s: float


@dataclass(frozen=True)
class DrawContext:
    """Which picture is drawn: number `index` of `job`, which began at `began` (monotonic seconds)."""

    job: Job
    index: int
    report: ProgressWriter
    previews: PreviewWriter
    began: float


class Watchdog:
    """One picture at a time, called by the worker alone."""

    def __init__(
        self,
        jobs: JobManager,
        commands: CommandQueue,
        lifecycle: ModelLifecycle,
        durations: Durations,
        timing: Timing,
        unload: Callable[[str], Awaitable[None]],
        heard: Callable[[str], None],
    ) -> None:
        """heard: called with the drawing model whenever something has come into the inbox."""
        self._jobs = jobs
        self._commands, self._lifecycle, self._durations, self._timing = commands, lifecycle, durations, timing
        self._unload, self._heard = unload, heard
        self._drained_at: float | None = None  # monotonic: when a cancelled picture should have run out

    def draining_s(self) -> float | None:
        """Seconds until a cancelled picture has run out; None when none does, or nobody knows."""
        return None if self._drained_at is None else max(0.0, self._drained_at - time.monotonic())

    async def draw(self, request: DrawRequest, sitting: DrawContext) -> bytes:
        """The picture, a PNG. Raises Cancelled, Stopped (the service's grace is over) or EngineError."""
        adapter, job, image = self._adapter(), sitting.job, sitting.index + 1
        before = sitting.report.latest
        pace_s = before.step_s if before else None  # of the job's picture before

        def told(p: DrawProgress) -> None:
            done, total = (p.tile, p.tiles) if p.tile is not None else (p.step, p.steps)
            fraction = done / total if done is not None and total else None
            sitting.report(
                Progress(
                    phase=p.phase,
                    step=p.step,
                    steps=p.steps,
                    fraction=fraction,
                    image=image,
                    at=time.time(),
                    step_s=p.step_s if p.step_s is not None else pace_s,
                )
            )

        def seen(preview: Preview) -> None:
            sitting.previews(image, preview)

        sitting.report(Progress(phase=Phase.ENCODING, image=image, at=time.time(), step_s=pace_s))
        task = asyncio.create_task(adapter.generate(request, told, None if request.preview is None else seen))
        try:
            self._heard(job.model)  # what came before it began to draw
            while not task.done():
                patience_s = self._bound(sitting, adapter) - time.monotonic()
                await self._commands.wait(max(0.01, patience_s), [task])
                self._heard(job.model)
                if not task.done():
                    await self._check_limits(sitting, task)
            png = task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if not self._jobs.is_active(job.id):
            raise Cancelled
        return png

    def _adapter(self) -> Adapter:
        adapter = self._lifecycle.adapter
        assert adapter is not None
        return adapter

    def _bound(self, sitting: DrawContext, adapter: Adapter) -> float:
        """The moment (monotonic) at which the running picture has to be judged anew."""
        bounds = [sitting.began + self._timing.max_job_s, adapter.last_line_at + self._stall_s(sitting.job)]
        if self._commands.stop_at is not None:
            bounds.append(self._commands.stop_at)
        return min(bounds)

    async def _check_limits(self, sitting: DrawContext, task: asyncio.Task[bytes]) -> None:
        """Break the running picture off if it must be: raises Cancelled, Stopped or EngineError."""
        now = time.monotonic()
        if not self._jobs.is_active(sitting.job.id):
            await self._cancel(sitting, task)
            raise Cancelled
        if self._commands.stop_at is not None and now >= self._commands.stop_at:
            await self._unload("the service stops")
            raise Stopped
        if now - sitting.began >= self._timing.max_job_s:
            await self._unload("a job took too long")
            limit = f"{self._timing.max_job_s:g} s (IMAGEGEN_MAX_JOB_S)"
            detail = f"The job was ended after {limit}. Ask for fewer steps, pictures or pixels."
            raise EngineError("gave_up", detail)
        silent_s = now - self._adapter().last_line_at
        if silent_s >= self._stall_s(sitting.job):
            await self._unload("it hangs")
            raise EngineError("engine_hung", f"The engine said nothing for {silent_s:.0f} s and was ended.")

    async def _cancel(self, sitting: DrawContext, task: asyncio.Task[bytes]) -> None:
        """Interrupt the engine; if it cannot be interrupted or does not obey in time, end or drain it (D-05)."""
        job, adapter = sitting.job, self._adapter()
        step_s = self._durations.expect(job.model, "step", job.params.width * job.params.height)
        obeys_until: float | None = None
        if adapter.interrupt():
            obeys_until = time.monotonic() + max(LEAST_OBEY_S, OBEY_STEPS * (step_s or 0.0))
            self._expect_drained_in(step_s)
        elif await self._end_if_sooner(sitting):
            return
        self._lifecycle.set_state(EngineState.DRAINING)
        try:
            while not task.done():
                patience_s = LOOK_AGAIN_S if obeys_until is None else obeys_until - time.monotonic()
                await self._commands.wait(max(0.01, min(LOOK_AGAIN_S, patience_s)), [task])
                self._heard(job.model)
                if task.done():
                    break
                now = time.monotonic()
                if self._commands.stop_at is not None or now - adapter.last_line_at >= self._stall_s(job):
                    await self._unload("a cancelled picture did not end")
                    return
                if obeys_until is not None and now >= obeys_until:
                    obeys_until = None
                    if await self._end_if_sooner(sitting):
                        return
            failure = task.exception()
            if failure is not None and not (isinstance(failure, EngineError) and failure.code == INTERRUPTED):
                await self._unload("it died of a cancelled picture")
        finally:
            self._drained_at = None

    async def _end_if_sooner(self, sitting: DrawContext) -> bool:
        """D-05: end the engine if a reload takes less than the rest of the picture; else expect it to run out."""
        remaining_s = self._remaining_s(sitting)
        if cancel_by_kill(remaining_s, self._durations.expect(sitting.job.model, "load")):
            await self._unload("a running job was cancelled")
            return True
        self._expect_drained_in(remaining_s)
        return False

    def _expect_drained_in(self, seconds: float | None) -> None:
        self._drained_at = None if seconds is None else time.monotonic() + seconds

    def _remaining_s(self, sitting: DrawContext) -> float | None:
        """Seconds that the running picture would still take; None: not known."""
        job, latest = sitting.job, sitting.report.latest
        elapsed_s = 0.0 if latest is None else time.time() - latest.at
        this_picture = job.params.model_copy(update={"n": latest.image if latest else 1})
        return self._durations.remaining(job.model, this_picture, latest, elapsed_s)

    def _stall_s(self, job: Job) -> float:
        if self._timing.stall_s is not None:
            return self._timing.stall_s
        pixels = job.params.width * job.params.height
        return max(LEAST_STALL_S, STALL_FACTOR * (self._durations.slowest(job.model, "gap", pixels) or 0.0))

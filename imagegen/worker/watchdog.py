"""Watchdog: monitors the running picture, and decides when to drain it or to end the engine."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Protocol

from imagegen.engines.base import INTERRUPTED, EngineError
from imagegen.jobs.durations import Durations, cancel_by_kill
from imagegen.jobs.manager import JobManager
from imagegen.schemas import Job
from imagegen.worker.commands import CommandQueue
from imagegen.worker.job_run import JobRun
from imagegen.worker.lifecycle import Cancelled, Stopped
from imagegen.worker.prefetch import Prefetcher

LEAST_STALL_S, STALL_FACTOR = 120.0, 10.0
"""Silence allowed while drawing: max(LEAST_STALL_S, STALL_FACTOR x the longest gap measured at this size)."""
LEAST_OBEY_S, OBEY_STEPS = 10.0, 3.0
"""Time for an interrupted engine to stop its picture: max(LEAST_OBEY_S, OBEY_STEPS x a step). Then D-05 decides."""
DRAIN_CHECK_S = 2.0
"""How often to check a cancelled picture that is draining."""


@dataclass(frozen=True)
class Timing:
    """The time limits of a job, in seconds. `stall_s` None: derived from measured gaps."""

    max_job_s: float
    stall_s: float | None
    shutdown_grace_s: float


@dataclass(frozen=True)
class Kill:
    """Verdict: end the engine, for `reason`, and raise `error` for the job."""

    reason: str
    error: Exception


@dataclass(frozen=True)
class Drain:
    """Verdict: the job was cancelled; wait for its picture to end. `obeys_until`: deadline of an interrupted engine."""

    obeys_until: float | None = None  # monotonic seconds


class Drawer(Protocol):
    """What makes the picture: the adapter of the loaded model, or an upscale."""

    def interrupt(self) -> bool:
        """Stop the running picture, which then ends with the code `interrupted`; False if that cannot be done."""

    @property
    def last_line_at(self) -> float:
        """Time of its last sign of life (time.monotonic, seconds)."""


class Watchdog:
    """Monitors one picture at a time and returns verdicts. It interrupts the engine, but never ends it."""

    def __init__(
        self, jobs: JobManager, commands: CommandQueue, prefetcher: Prefetcher, durations: Durations, timing: Timing
    ) -> None:
        self._jobs, self._commands, self._prefetcher = jobs, commands, prefetcher
        self._durations, self._timing = durations, timing
        self._drained_at: float | None = None  # monotonic seconds: expected end of a cancelled picture

    def draining_s(self) -> float | None:
        """Seconds until a cancelled picture ends; None if there is none, or its end is unknown."""
        return None if self._drained_at is None else max(0.0, self._drained_at - time.monotonic())

    async def attend(self, drawing: asyncio.Task[bytes], drawer: Drawer, run: JobRun) -> Kill | Drain | None:
        """Wait until the picture is drawn or has failed, and return None; or return a verdict earlier."""
        self._look_into_queue(run)  # commands that arrived before the drawing began
        while not drawing.done():
            patience_s = self._bound(run, drawer) - time.monotonic()
            await self._commands.wait(max(0.01, patience_s), [drawing])
            self._look_into_queue(run)
            if not drawing.done() and (verdict := self._judge(run, drawer)) is not None:
                return verdict
        return None

    async def drain(self, drawing: asyncio.Task[bytes], drawer: Drawer, run: JobRun, verdict: Drain) -> Kill | None:
        """Wait until a cancelled picture has ended, and return None; or Kill if the engine must be ended."""
        obeys_until = verdict.obeys_until
        try:
            while not drawing.done():
                patience_s = DRAIN_CHECK_S if obeys_until is None else obeys_until - time.monotonic()
                await self._commands.wait(max(0.01, min(DRAIN_CHECK_S, patience_s)), [drawing])
                self._look_into_queue(run)
                if drawing.done():
                    break
                now = time.monotonic()
                if self._commands.stop_at is not None or now - drawer.last_line_at >= self._stall_s(run.job):
                    return Kill("a cancelled picture did not end", Cancelled())
                if obeys_until is not None and now >= obeys_until:
                    obeys_until = None
                    if (kill := self._end_if_sooner(run)) is not None:
                        return kill
            failure = drawing.exception()
            if failure is not None and not (isinstance(failure, EngineError) and failure.code == INTERRUPTED):
                return Kill("it died of a cancelled picture", Cancelled())
            return None
        finally:
            self._drained_at = None

    def _look_into_queue(self, run: JobRun) -> None:
        """Answer the waiting commands, and read ahead for the next model."""
        self._commands.answer_while_busy(run.job.model)
        self._prefetcher.look(run.job.model)

    def _bound(self, run: JobRun, drawer: Drawer) -> float:
        """When to judge the running picture next, in monotonic seconds."""
        bounds = [run.began + self._timing.max_job_s, drawer.last_line_at + self._stall_s(run.job)]
        if self._commands.stop_at is not None:
            bounds.append(self._commands.stop_at)
        return min(bounds)

    def _judge(self, run: JobRun, drawer: Drawer) -> Kill | Drain | None:
        """The verdict on the running picture; None to continue."""
        now = time.monotonic()
        if not self._jobs.is_active(run.job.id):
            return self._cancel(run, drawer)
        if self._commands.stop_at is not None and now >= self._commands.stop_at:
            return Kill("the service stops", Stopped())
        if now - run.began >= self._timing.max_job_s:
            limit = f"{self._timing.max_job_s:g} s (IMAGEGEN_MAX_JOB_S)"
            detail = f"The job was ended after {limit}. Ask for fewer steps, pictures or pixels."
            return Kill("a job took too long", EngineError("gave_up", detail))
        silent_s = now - drawer.last_line_at
        if silent_s >= self._stall_s(run.job):
            detail = f"The engine reported nothing for {silent_s:.0f} s and was ended."
            return Kill("it hangs", EngineError("engine_hung", detail))
        return None

    def _cancel(self, run: JobRun, drawer: Drawer) -> Kill | Drain:
        """Interrupt the engine; if it cannot be interrupted, end or drain it (D-05)."""
        step_s = self._durations.expect(run.job.model, "step", run.job.params.pixels)
        if drawer.interrupt():
            self._expect_drained_in(step_s)
            return Drain(time.monotonic() + max(LEAST_OBEY_S, OBEY_STEPS * (step_s or 0.0)))
        return self._end_if_sooner(run) or Drain()

    def _end_if_sooner(self, run: JobRun) -> Kill | None:
        """D-05: return Kill if a reload takes less time than the rest of the picture; else expect it to drain."""
        remaining_s = self._remaining_s(run)
        if cancel_by_kill(remaining_s, self._durations.expect(run.job.model, "load")):
            return Kill("a running job was cancelled", Cancelled())
        self._expect_drained_in(remaining_s)
        return None

    def _expect_drained_in(self, seconds: float | None) -> None:
        self._drained_at = None if seconds is None else time.monotonic() + seconds

    def _remaining_s(self, run: JobRun) -> float | None:
        """Seconds that the running picture still takes; None if unknown."""
        job, latest = run.job, run.report.latest
        elapsed_s = 0.0 if latest is None else time.time() - latest.at
        this_picture = job.params.model_copy(update={"n": latest.image if latest else 1})
        return self._durations.remaining(job.model, this_picture, latest, elapsed_s)

    def _stall_s(self, job: Job) -> float:
        if self._timing.stall_s is not None:
            return self._timing.stall_s
        longest_s = self._durations.slowest(job.model, "gap", job.params.pixels) or 0.0
        return max(LEAST_STALL_S, STALL_FACTOR * longest_s)

"""Worker: one loop that owns the engine and alone changes its state: load, draw, idle, unload.

Other code adds commands or changes the queue, and the loop answers. So no two transitions can race (as in llama-swap's
process state machine). The queue's notifier wakes the loop. `JobRunner` (a started job), `Watchdog` (a running
picture), `UpscaleRunner`, `WarmUp`, `Schedule` and the idle policy return verdicts, and the loop acts on them.

| state | event | action |
|---|---|---|
| cold, failed, ready | a job is due | start it: load its model if it is not loaded (loading), draw (drawing) |
| cold, failed, ready | warm-up, and no job is due | load it (loading), then ready; refuse if files or VRAM lack |
| cold, failed, ready | unload | end the engine, if there is one (unloading), then cold |
| failed | the next try is due, or a file changed | the model's jobs are due again |
| ready | idle long enough, or the engine died | end it (unloading), then cold |
| loading | loaded | draw the job (drawing); after a warm-up ready |
| loading | the load fails | failed, or ready if another model is still loaded; the model's jobs fail; retry later |
| loading | the engine is killed | queue the job again, at most MAX_STARTS starts |
| loading | the job is cancelled, and the next one needs another model | cancel the load, then cold |
| loading, for a warm-up | unload, or a job for another model | cancel the load |
| drawing | drawn | complete the job, then ready |
| drawing | the job is cancelled | interrupt or drain the picture (draining), or end the engine: see `Watchdog` |
| cold, failed, ready | an upscale is due | run it beside the model, if one is loaded; the state stays |
| drawing | the job takes too long, or the engine hangs or dies | end the engine; fail the job or queue it again |
| draining | the picture has ended | ready |
| loading, drawing, draining | unload | refuse: busy |
| loading, drawing, draining | warm-up of the same model | done; of another model: after the jobs |
| any | stop | wait for the picture at most the grace period; end the engine; queue the job again, not counted |
| any | an internal error | end the engine, fail the job, pause, continue |
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from sqlalchemy.exc import DBAPIError

from imagegen.engines.base import EngineError
from imagegen.hardware.gpu_sharing import LOOK_EVERY_S
from imagegen.hardware.needs_table import NeedsTable
from imagegen.idle.policy import Decision
from imagegen.idle.tracker import IdleTracker
from imagegen.jobs.active import ActiveJob
from imagegen.jobs.durations import Durations, Measurement
from imagegen.jobs.manager import MAX_STARTS, JobManager
from imagegen.jobs.measurements import Measurements
from imagegen.jobs.notifications import ANY
from imagegen.schemas import EngineState, Failure, Job, Phase, Progress, Refused
from imagegen.storage.database import storage_failure
from imagegen.storage.descriptors import are_short
from imagegen.storage.errors import StorageError
from imagegen.storage.postgres_errors import is_unavailable
from imagegen.telemetry.recorder import Recorder
from imagegen.worker.commands import Command, CommandQueue
from imagegen.worker.job_run import DrawingRun, UpscaleRun
from imagegen.worker.lifecycle import IDLE, Cancelled, EngineView, LoadFailed, ModelLifecycle, Stopped
from imagegen.worker.load_backoff import LoadBackoff
from imagegen.worker.memory_modes import MemoryModes
from imagegen.worker.prefetch import Prefetcher
from imagegen.worker.processor import ImageProcessor
from imagegen.worker.progress import ProgressWriter
from imagegen.worker.provider import EngineProvider
from imagegen.worker.runner import JobRunner
from imagegen.worker.schedule import Schedule
from imagegen.worker.upscaling import UpscaleRunner
from imagegen.worker.warmup import Warm, WarmUp
from imagegen.worker.watchdog import Timing, Watchdog

log = logging.getLogger("imagegen.worker")

LOOK_AGAIN_S = 2.0
"""How often to check whether a model's files changed after a failed load; also the pause after an internal error."""
NO_FAULT_OF_MODEL = {"gpu_busy", "gpu_lost", "job_too_large"}
"""Codes of loads that failed for a reason that a later job for the same model may not have."""
OWN_ERROR = Failure(code="gave_up", detail="Internal error while running this job. See the service log.")
WARM_UP_ERROR = "Internal error while warming the model up. See the service log."


class _Short(Exception):
    """No file descriptor was free for the running job."""


class Worker:
    """Runs the queued jobs one at a time on one engine."""

    def __init__(
        self,
        jobs: JobManager,
        processor: ImageProcessor,
        durations: Durations,
        idle: IdleTracker,
        timing: Timing,
        provider: EngineProvider,
        measurements: Measurements,
        memory_needs: NeedsTable,
        recorder: Recorder,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """clock: measures idle time, in seconds; monotonic, and it must not advance while the machine is suspended."""
        self._jobs, self._idle_tracker, self._timing, self._provider = jobs, idle, timing, provider
        self._measurements, self._clock = measurements, clock
        self.commands = CommandQueue()
        self._backoff = LoadBackoff(provider)
        self._schedule = Schedule(jobs, self._backoff)
        self._prefetcher = Prefetcher(jobs, provider)
        memory = MemoryModes(provider, memory_needs)
        self._lifecycle = ModelLifecycle(
            provider, memory, self.commands, self._backoff, idle, jobs.changes, recorder, clock
        )
        self._watchdog = Watchdog(jobs, self.commands, self._prefetcher, durations, timing)
        self._runner = JobRunner(
            jobs, processor, self.commands, self._prefetcher, self._lifecycle, self._watchdog, recorder
        )
        self._upscaler = UpscaleRunner(jobs, processor, provider, self._lifecycle, self._watchdog)
        self._warmup = WarmUp(provider, self._schedule, self._backoff, self.commands, self._lifecycle, idle, clock)

    # ---- the interface for other packages -----------------------------------------------------

    def stop(self) -> None:
        """Stop: the running picture has the grace period, then the engine is ended and `run` returns."""
        self.commands.stop(self._timing.shutdown_grace_s)

    def warm(self, model: str) -> Command:
        """Load `model` when no job is due. If it is loaded, keep it longer for the expected request.

        The command's `done` is set when the load has begun or waits for the running job; it raises Refused 409, 503.
        """
        if self._lifecycle.stays_loaded(model):
            self._idle_tracker.typing(self._clock())
            self._jobs.changes.notify("engine")  # the time of the unload has changed
        return self.commands.order(Command("warm", model))

    def keep(self) -> None:
        """Count a kept draft as use of the model, and recompute the time of the unload."""
        self._idle_tracker.used(self._clock())
        self.commands.ring()
        self._jobs.changes.notify("engine")

    async def unload(self) -> None:
        """End an idle engine or a warm-up, and wait for it. Raises Refused 409 `busy`, 503 `shutting_down`."""
        await self.commands.order(Command("unload")).done

    def view(self) -> EngineView:
        """The engine's current state. Does not wake the loop."""
        return self._lifecycle.view()

    def decision(self) -> Decision | None:
        """When and why an idle engine will be unloaded (POSIX seconds); None unless a model is loaded and idle."""
        if self._lifecycle.state is not EngineState.READY:
            return None
        now = self._clock()
        at, reason = self._idle_tracker.decide(now)
        return Decision(None if at is None else time.time() + at - now, reason)

    def draining_s(self) -> float | None:
        """Seconds until a cancelled picture ends; None if there is none, or its end is unknown."""
        return self._watchdog.draining_s()

    # ---- the loop -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Run jobs and commands until `stop`. Always ends the engine process, also after an error."""
        try:
            with self._jobs.changes.subscribe(ANY, self.commands.wakeup):
                while self.commands.stop_at is None:
                    await self._take_turn()
        finally:
            await self._lifecycle.unload("the service stops")
            self.commands.close()

    async def _take_turn(self) -> None:
        """Run the next job; without one, handle commands and idle time."""
        active = None
        try:
            active, _held_s = self._schedule.next()
            if active is None:
                await self._idle()
            else:
                await self._serve(active)
        except Exception as error:  # if the loop ended, all jobs would wait for ever
            log.exception("an error of the service itself")
            await self._start_over(None if are_short(error) else active)

    async def _start_over(self, active: ActiveJob | None) -> None:
        """Recover from an internal error: end the engine, fail the job that caused it, and pause."""
        await self._lifecycle.unload("an error of the service")
        if active is not None:
            await self._jobs.fail(active.id, OWN_ERROR)
        await self.commands.rest(LOOK_AGAIN_S)

    async def _idle(self) -> None:
        """Wait for a job, a command, the engine's exit, or the time to unload."""
        self._prefetcher.end()
        if self._lifecycle.adapter is not None:
            self._idle_tracker.gpu_wanted = await self._provider.gpu_sharing.wanted(self._lifecycle.adapter.pid)
        await self._run_commands()
        active, held_s = self._schedule.next()
        if active is not None or self.commands.stop_at is not None:
            return
        waits_s = [] if held_s is None else [min(held_s, LOOK_AGAIN_S)]
        adapter = self._lifecycle.adapter
        if adapter is None:
            await self.commands.wait(min(waits_s, default=None))
            return
        now = self._clock()
        unload_at, _reason = self._idle_tracker.decide(now)
        if unload_at is not None:
            if unload_at <= now:
                await self._lifecycle.unload(IDLE)
                return
            waits_s += [unload_at - now, LOOK_EVERY_S] if self._provider.gpu_sharing.present else [unload_at - now]
        death = asyncio.ensure_future(adapter.wait_died())
        try:
            await self.commands.wait(min(waits_s, default=None), [death])
            if death.done():
                log.warning("engine died while idle")
                await self._lifecycle.unload("it died")
        finally:
            death.cancel()

    async def _run_commands(self) -> None:
        """Run the waiting commands while no job runs. Warm-ups come after the jobs that are due."""
        while self.commands.stop_at is None and (order := self.commands.next_command()) is not None:
            if order.what == "unload":
                await self._lifecycle.unload("asked for")
                order.succeed()
            elif self._schedule.next()[0] is not None:
                self.commands.put_off(order)
                return
            else:
                await self._warm_up(order)

    async def _warm_up(self, order: Command) -> None:
        """Load the command's model unless `WarmUp` refuses it, and set the command's `done`."""
        try:
            verdict = await self._warmup.run(order)
            if isinstance(verdict, Warm):
                order.succeed()
                if verdict.load_s is not None:
                    self._lifecycle.set_state(EngineState.READY)
                    await self._measurements.learn([Measurement(order.model or "", "load", 0, verdict.load_s)])
            elif isinstance(verdict, Refused):
                order.fail(verdict)
            else:
                error = verdict.error
                if error.code in NO_FAULT_OF_MODEL:
                    log.info("not warmed up: %s", error.detail)
                else:
                    await self._load_failed(order.model or "", error)
                order.fail(Refused(503, error.code, f"{order.model} is not loaded: {error.detail}"))
        finally:
            order.fail(Refused(500, "internal", WARM_UP_ERROR))  # has no effect if `done` is set

    # ---- one job ------------------------------------------------------------------------------

    async def _serve(self, active: ActiveJob) -> None:
        """Run one job to its end, and handle each failure. An upscale needs no model and leaves a loaded one alone."""
        try:
            entry = None if active.params.upscales else self._provider.find_model(active.model)
        except Refused as unknown:
            await self._jobs.fail(active.id, Failure(code="model_missing", detail=unknown.detail))
            return
        loaded = entry is not None and self._lifecycle.is_loaded(entry)
        try:
            first = Phase.UPSCALING if entry is None else Phase.ENCODING if loaded else Phase.LOADING
            job = await self._jobs.start(active.id, Progress(phase=first, at=time.time()))
        except DBAPIError as refused:
            if are_short(refused):
                await self._pause_for_descriptors()
            elif is_unavailable(refused):
                await self._pause_for_server()
            else:
                await self._jobs.fail(active.id, _storage_says(refused))
            return
        if job is None:
            return
        if entry is not None:
            self._idle_tracker.arrived(self._clock(), cold=not loaded, draft=job.draft)
        async with ProgressWriter(self._jobs, job.id) as report:
            run = UpscaleRun(job, report) if entry is None else DrawingRun(job, report, entry=entry)
            try:
                await self._run_unless_short(run)
            except _Short:
                await self._jobs.requeue(job.id, counted=False)
                await self._pause_for_descriptors()
            except Cancelled:
                pass
            except Stopped:
                await self._jobs.requeue(job.id, counted=False)
            except LoadFailed as failed:
                await self._not_loaded(job, failed.error)
            except EngineError as error:
                await self._engine_failed(job, error)
            except (StorageError, DBAPIError) as disk:
                if is_unavailable(disk):
                    await self._jobs.requeue(job.id, counted=False)
                else:
                    await self._jobs.fail(job.id, _storage_says(disk))
            except Refused as refused:
                await self._jobs.fail(job.id, Failure(code=refused.code, detail=refused.detail))
            except Exception:
                log.exception("job %s: an error of the service itself", job.id)
                await self._lifecycle.unload("an error of the service")
                await self._jobs.fail(job.id, OWN_ERROR)
        if self._lifecycle.adapter is not None:
            self._provider.gpu_sharing.reset_baseline()
            self._lifecycle.set_state(EngineState.READY)
        if entry is not None:
            self._idle_tracker.served(self._clock(), loaded=self._lifecycle.adapter is not None, draft=job.draft)
        await self._measurements.learn(run.measurements)

    async def _run_unless_short(self, run: UpscaleRun | DrawingRun) -> None:
        """Run the job, but raise _Short in place of an error that a lack of file descriptors caused."""
        try:
            if isinstance(run, UpscaleRun):
                await self._upscaler.run(run)
            else:
                await self._runner.run(run)
        except (Cancelled, Stopped):
            raise
        except Exception as error:
            if are_short(error.error if isinstance(error, LoadFailed) else error):
                raise _Short from error
            raise

    async def _pause_for_descriptors(self) -> None:
        """Pause until file descriptors may be free again. The job is in the queue."""
        log.warning("no file descriptor is free: the job stays in the queue")
        await self.commands.rest(LOOK_AGAIN_S)

    async def _pause_for_server(self) -> None:
        """Pause until the database server may answer again. The job is in the queue."""
        log.warning("the database server cannot be reached: the job stays in the queue")
        await self.commands.rest(LOOK_AGAIN_S)

    # ---- failures -----------------------------------------------------------------------------

    async def _engine_failed(self, job: Job, error: EngineError) -> None:
        """Fail the job after an engine error, or queue it again if the engine died or hung."""
        if not error.draws_on:
            await self._lifecycle.unload(error.code)
        if error.code not in {"engine_died", "engine_hung"}:
            await self._jobs.fail(job.id, Failure(code=error.code, detail=error.detail))
        elif job.attempts < MAX_STARTS:
            log.warning("job %s: %s; it is run again", job.id, error.code)
            await self._jobs.requeue(job.id, counted=True)
        else:
            detail = f"{error.detail} The job was tried {job.attempts} times and is given up."
            await self._jobs.fail(job.id, Failure(code=error.code, detail=detail))

    async def _not_loaded(self, job: Job, error: EngineError) -> None:
        """Queue the job again if the engine was killed while loading; else fail it, because a retry would fail too."""
        if error.code == "engine_died" and job.attempts < MAX_STARTS:
            log.warning("job %s: the engine was killed while it loaded; it is run again", job.id)
            await self._jobs.requeue(job.id, counted=True)
        elif error.code in NO_FAULT_OF_MODEL:  # other jobs may still load it
            await self._jobs.fail(job.id, Failure(code=error.code, detail=error.detail))
        else:
            await self._load_failed(job.model, error)

    async def _load_failed(self, model: str, error: EngineError | Refused) -> None:
        """Record that `model` cannot be loaded, and fail the jobs that need it."""
        failure = self._backoff.record(model, error)
        self._lifecycle.failed(failure)
        if are_short(error):
            return  # the next try is due later; the jobs wait for it
        for waiting in self._jobs.active():
            if waiting.model == model:
                await self._jobs.fail(waiting.id, failure)


def _storage_says(error: StorageError | DBAPIError) -> Failure:
    failure = storage_failure(error)
    return Failure(code=failure.code, detail=f"{failure} Then submit the job again.")

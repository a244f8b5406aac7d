"""Worker: one loop that alone owns the engine and changes its state: load, draw, idle, unload.

Everybody else leaves something in the inbox and is answered by the loop, so that no two transitions can race
(the lesson of llama-swap's process state machine). What happens in each state:
cold, failed: wait for a job or a warm-up · loading: attend the load · ready: wait for a job, the engine's death
or the time to unload · drawing: attend the picture · draining: a cancelled picture runs out · unloading: wait
until the process is gone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence

from sqlalchemy.exc import DBAPIError

from imagegen.engines.base import EngineError, LoadProgress
from imagegen.hardware.gpu_sharing import LOOK_EVERY_S
from imagegen.idle.policy import Decision
from imagegen.idle.tracker import IdleTracker
from imagegen.images.png import BrokenPng
from imagegen.jobs.durations import Durations, Measurement, timed_as
from imagegen.jobs.manager import MAX_STARTS, ActiveJob, JobManager
from imagegen.jobs.notifications import ANY
from imagegen.models.download.progress import Fetching
from imagegen.models.entry import Entry
from imagegen.schemas import EngineState, Failure, Job, Phase, Progress, Refused, StoredImage, Warn
from imagegen.storage.database import storage_failure
from imagegen.storage.descriptors import are_short
from imagegen.storage.errors import StorageError
from imagegen.telemetry.recorder import Recorder
from imagegen.worker.commands import Command, CommandQueue
from imagegen.worker.lifecycle import Cancelled, EngineView, LoadFailed, ModelLifecycle, Stopped
from imagegen.worker.load_backoff import LoadBackoff
from imagegen.worker.prefetch import Prefetcher
from imagegen.worker.previews import PreviewWriter
from imagegen.worker.processor import ImageProcessor, seed_of
from imagegen.worker.progress import ProgressWriter, fetching
from imagegen.worker.provider import EngineProvider
from imagegen.worker.warmup import WarmUp
from imagegen.worker.watchdog import DrawContext, Timing, Watchdog

log = logging.getLogger("imagegen.worker")

LOOK_AGAIN_S = 2.0
"""How often a job that waits after a failed load looks whether the model's files were put right."""
IDLE = "idle"
NONE_SKIPPED = Warn(
    code="speed_without_effect",
    detail="Fast left no step out: the engine's cache found that each one changes the picture.",
)
OWN_ERROR = Failure(code="gave_up", detail="The service failed at this job by an error of its own; its log says more.")


class _Short(Exception):
    """No file descriptor was free for the running job."""


class Worker:
    """Runs the queue's jobs one after the other on one engine."""

    def __init__(
        self,
        jobs: JobManager,
        processor: ImageProcessor,
        durations: Durations,
        idle: IdleTracker,
        timing: Timing,
        parts: EngineProvider,
        measured: Callable[[Sequence[Measurement]], Awaitable[None]],
        recorder: Recorder,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """clock: seconds by which a model is idle; nobody sets it, and it stands still while the machine sleeps."""
        self._jobs, self._processor, self._durations, self._idle_tracker, self._timing = (
            jobs,
            processor,
            durations,
            idle,
            timing,
        )
        self._parts, self._measured, self._recorder, self._clock = parts, measured, recorder, clock
        self._new: list[Measurement] = []
        self._skipped = 0  # steps that a cache left out of the running job's pictures
        self._engine_said: list[Warn] = []  # of the running job's pictures
        self.commands = CommandQueue()
        self._lifecycle = ModelLifecycle(parts, self.commands, lambda: jobs.changes.notify("engine"), recorder)
        self._backoff = LoadBackoff(parts)
        self._watchdog = Watchdog(jobs, self.commands, self._lifecycle, durations, timing, self._unload, self._on_inbox)
        self._prefetcher = Prefetcher(jobs.queued, lambda model: parts.read_ahead(parts.find_model(model)))
        self._warmup = WarmUp(
            self.commands,
            self._lifecycle,
            self._backoff,
            idle,
            parts.find_model,
            clock,
            self._next,
            self._load,
            self._load_failed,
        )

    # ---- what others may ask ------------------------------------------------------------------

    def stop(self) -> None:
        """Finish within the grace, then end the engine; `run` returns."""
        self.commands.stop(self._timing.shutdown_grace_s)

    def warm(self, model: str) -> Command:
        """Load `model` when nothing else is to do; one that is loaded is kept a while for whoever announced himself.

        The order is done once that has begun or waits for the running job. Raises through it Refused 409, 503.
        """
        if self._lifecycle.stays_loaded(model):
            self._idle_tracker.typing(self._clock())
            self._jobs.changes.notify("engine")  # readers are told when it is unloaded now
        return self.commands.order(Command("warm", model))

    def keep(self) -> None:
        """A draft is kept: it counts as use, so when to unload is decided anew."""
        self._idle_tracker.used(self._clock())
        self.commands.ring()
        self._jobs.changes.notify("engine")

    async def unload(self) -> None:
        """End an idle engine or a warm-up; it is gone then. Raises Refused 409 `busy`, 503 `shutting_down`."""
        await self.commands.order(Command("unload")).done

    def view(self) -> EngineView:
        """The engine's state now; reading it wakes nothing."""
        return self._lifecycle.view()

    def decision(self) -> Decision | None:
        """While idle and loaded: when the engine is unloaded (POSIX seconds), and why."""
        if self._lifecycle.state is not EngineState.READY:
            return None
        now = self._clock()
        at, reason = self._idle_tracker.decide(now)
        return Decision(None if at is None else time.time() + at - now, reason)

    def draining_s(self) -> float | None:
        """Seconds until a cancelled picture has run out; None when none does, or nobody knows."""
        return self._watchdog.draining_s()

    # ---- the loop -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Live until `stop`. Leaves no engine process behind, however it ends."""
        try:
            with self._jobs.changes.subscribe(ANY, self.commands.bell):
                while self.commands.stop_at is None:
                    await self._take_turn()
        finally:
            await self._unload("the service stops")
            self.commands.close()

    async def _take_turn(self) -> None:
        """The next job, if there is one, else what is to be done without."""
        active = None
        try:
            active, _held_s = self._next()
            if active is None:
                await self._idle()
            else:
                await self._serve(active)
        except Exception as error:  # a loop that ended would leave every job waiting for ever, and nobody told
            log.exception("an error of the service itself")
            await self._start_over(None if are_short(error) else active)

    async def _start_over(self, active: ActiveJob | None) -> None:
        """After an error of our own: without an engine, without the job that brought it about, and after a rest."""
        await self._unload("an error of the service")
        if active is not None:
            await self._jobs.fail(active.id, OWN_ERROR)
        await self.commands.rest(LOOK_AGAIN_S)

    def _next(self) -> tuple[ActiveJob | None, float | None]:
        """The oldest job whose model may be tried now; else the seconds until one that waits may be.

        A model whose last load failed holds back its own jobs, not those of other models.
        """
        held: dict[str, float] = {}
        for active in self._jobs.queued():
            if active.model not in held:
                left_s = self._backoff.retry_in_s(active.model)
                if left_s == 0:
                    return active, None
                held[active.model] = left_s
        return None, min(held.values(), default=None)

    async def _idle(self) -> None:
        """Wait for a job, an order, the engine's death, or the time to unload."""
        self._prefetcher.end()
        if self._lifecycle.adapter is not None:
            self._idle_tracker.gpu_wanted = await self._parts.gpu_sharing.wanted(self._lifecycle.adapter.pid)
        await self._run_commands()
        active, held_s = self._next()
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
                await self._unload(IDLE)
                return
            waits_s += [unload_at - now, LOOK_EVERY_S] if self._parts.gpu_sharing.present else [unload_at - now]
        death = asyncio.ensure_future(adapter.wait_died())
        try:
            await self.commands.wait(min(waits_s, default=None), [death])
            if death.done():
                log.warning("engine died while idle")
                await self._unload("it died")
        finally:
            death.cancel()

    async def _run_commands(self) -> None:
        """Do what was ordered while nothing runs; a warm-up's turn comes after the jobs."""
        while self.commands.stop_at is None and (order := self.commands.next_command()) is not None:
            if order.what == "unload":
                await self._unload("asked for")
                order.succeed()
            elif self._next()[0] is not None:
                self.commands.put_off(order)
                return
            else:
                await self._warmup.obey(order)

    # ---- one job ------------------------------------------------------------------------------

    async def _serve(self, active: ActiveJob) -> None:
        """Run one job to its end, whatever happens on the way."""
        try:
            entry = self._parts.find_model(active.model)
        except Refused as unknown:
            await self._jobs.fail(active.id, Failure(code="model_missing", detail=unknown.detail))
            return
        loaded = self._lifecycle.is_loaded(entry)
        try:
            first = Phase.ENCODING if loaded else Phase.LOADING
            job = await self._jobs.start(active.id, Progress(phase=first, at=time.time()))
        except DBAPIError as refused:
            if are_short(refused):
                await self._pause_for_descriptors()
            else:
                await self._jobs.fail(active.id, _storage_says(refused))
            return
        if job is None:
            return
        self._idle_tracker.arrived(self._clock(), cold=not loaded, draft=job.draft)
        async with ProgressWriter(self._jobs, job.id) as report:
            try:
                await self._run_unless_short(job, entry, report)
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
                await self._jobs.fail(job.id, _storage_says(disk))
            except Refused as refused:
                await self._jobs.fail(job.id, Failure(code=refused.code, detail=refused.detail))
            except Exception:
                log.exception("job %s: an error of the service itself", job.id)
                await self._unload("an error of the service")
                await self._jobs.fail(job.id, OWN_ERROR)
        if self._lifecycle.adapter is not None:
            self._parts.gpu_sharing.reset_baseline()
            self._lifecycle.set_state(EngineState.READY)
        self._idle_tracker.served(self._clock(), loaded=self._lifecycle.adapter is not None, draft=job.draft)
        new, self._new = self._new, []
        await self._measured(new)

    async def _run_unless_short(self, job: Job, entry: Entry, report: ProgressWriter) -> None:
        """Raises _Short in place of any error that a missing file descriptor caused; else as `_run`."""
        try:
            await self._run(job, entry, report)
        except (Cancelled, Stopped):
            raise
        except Exception as error:
            if are_short(error.error if isinstance(error, LoadFailed) else error):
                raise _Short from error
            raise

    async def _pause_for_descriptors(self) -> None:
        """The job is in the queue; wait until descriptors may be free again."""
        log.warning("no file descriptor is free: the job stays in the queue")
        await self.commands.rest(LOOK_AGAIN_S)

    async def _run(self, job: Job, entry: Entry, report: ProgressWriter) -> None:
        """Load if need be, draw the job's pictures, complete it; a job that ends otherwise keeps none."""
        began = time.monotonic()
        if not self._lifecycle.is_loaded(entry):

            def told(p: LoadProgress | Fetching) -> None:
                if isinstance(p, Fetching):
                    report(fetching(p))
                    return
                if p.waits_for is not None:
                    report(Progress(phase=Phase.WAITING_GPU, detail=p.waits_for, at=time.time()))
                    return
                loading = Progress(phase=Phase.LOADING, fraction=p.fraction, at=time.time())
                report(loading.model_copy(update={"bytes_done": p.bytes_done, "bytes_total": p.bytes_total}))

            def unwanted() -> bool:
                self.commands.answer_while_busy(job.model)
                behind = self._jobs.next_queued()
                return not self._jobs.is_active(job.id) and (behind is None or behind.model != job.model)

            await self._lifecycle.prepare(entry, told, unwanted)
            load_s = await self._load(entry, told, unwanted)
            began = time.monotonic() - load_s  # waiting for files or for the GPU is not the job's own time
            if not self._jobs.is_active(job.id):  # cancelled, and the load went on for those behind
                raise Cancelled
        self._lifecycle.set_state(EngineState.DRAWING)
        images: list[StoredImage] = []
        warnings: list[Warn] = []
        self._skipped, self._engine_said = 0, []
        try:
            async with PreviewWriter(self._jobs, job, entry.preview_look.correction()) as previews:
                for index in range(job.params.n):
                    png, seed = await self._picture(DrawContext(job, index, report, previews, began), warnings)
                    pace_s = report.latest.step_s if report.latest else None
                    report(Progress(phase=Phase.SAVING, image=index + 1, at=time.time(), step_s=pace_s))
                    images.append(await self._processor.postprocess(job, index, seed, png))
            if job.params.speed == "fast" and not self._skipped:
                warnings.append(NONE_SKIPPED)
            if await self._jobs.complete(job, images, warnings + self._engine_said):
                images = []
                log.info("job %s drawn seconds=%.3f skipped=%d", job.id, time.monotonic() - began, self._skipped)
        except BrokenPng as broken:
            raise EngineError("engine_died", f"The engine's picture was not whole: {broken}") from None
        finally:
            if images:
                await self._processor.discard(images)

    async def _picture(self, sitting: DrawContext, warnings: list[Warn]) -> tuple[bytes, int]:
        """A picture and its seed; one of a single colour is drawn once more if the seed was ours."""
        job = sitting.job
        seed = seed_of(job, sitting.index)
        png = await self._draw(sitting, seed)
        finding = await self._processor.check_blank(job, png)
        if finding is not None and not job.params.seed_given:
            first, seed = seed, seed_of(job, sitting.index, attempt=1)
            detail = f"With seed {first} the picture was one single colour, so it was drawn again with seed {seed}."
            warnings.append(Warn(code="drawn_again", detail=detail))
            png = await self._draw(sitting, seed)
            finding = await self._processor.check_blank(job, png)
        if finding is not None:
            warnings.append(Warn(code=finding.code, detail=finding.detail))
        return png, seed

    async def _draw(self, sitting: DrawContext, seed: int) -> bytes:
        """One picture, attended; what it cost is learned."""
        request = await self._processor.preprocess(sitting.job, seed)
        png = await self._watchdog.draw(request, sitting)
        self._note_draw(sitting.job)
        return png

    def _on_inbox(self, model: str) -> None:
        """Something came while `model` draws."""
        self.commands.answer_while_busy(model)
        self._prefetcher.look(model)

    def _note_draw(self, job: Job) -> None:
        drawn = self._lifecycle.adapter.last_draw if self._lifecycle.adapter else None
        if drawn is None:
            return
        self._skipped += drawn.skipped
        self._engine_said += [one for one in drawn.warnings if one not in self._engine_said]
        self._recorder.drew(job.model, drawn)
        pixels = job.params.width * job.params.height
        step_s = drawn.sample_s / drawn.steps if drawn.sample_s is not None and drawn.steps else None
        self._measure(job.model, "encode" if drawn.tokens is None else "tokens", pixels, drawn.encode_s)
        self._measure(timed_as(job.model, job.params.speed), "step", pixels, step_s)
        self._measure(job.model, "decode", pixels, drawn.decode_s)
        self._measure(job.model, "gap", pixels, drawn.longest_gap_s)

    def _measure(self, model: str, what: str, pixels: int, seconds: float | None) -> None:
        if seconds is not None:
            self._new.append(Measurement(model, what, pixels, seconds))  # type: ignore[arg-type]

    # ---- the engine ---------------------------------------------------------------------------

    async def _load(
        self,
        entry: Entry,
        told: Callable[[LoadProgress | Fetching], None],
        unwanted: Callable[[], bool],
        *,
        wait_for_room: bool = True,
    ) -> float:
        """Load what the resident has looked at; seconds that it took."""
        self._prefetcher.end()  # the load has its own
        seconds = await self._lifecycle.load(entry, told, unwanted, wait_for_room=wait_for_room)
        self._backoff.forget(entry.name)
        self._idle_tracker.loaded(entry.name, seconds, self._lifecycle.read_bytes(), self._parts.files_bytes(entry))
        self._measure(entry.name, "load", 0, seconds)
        return seconds

    async def _unload(self, reason: str) -> None:
        if self._lifecycle.adapter is not None:
            await self._lifecycle.unload(reason)
            self._idle_tracker.unloaded(self._clock(), by_policy=reason == IDLE)

    async def _engine_failed(self, job: Job, error: EngineError) -> None:
        """Decide what an engine's failure while it drew means for its job."""
        if not error.draws_on:
            await self._unload(error.code)
        if error.code not in {"engine_died", "engine_hung"}:
            await self._jobs.fail(job.id, Failure(code=error.code, detail=error.detail))
        elif job.attempts < MAX_STARTS:
            log.warning("job %s: %s; it is run again", job.id, error.code)
            await self._jobs.requeue(job.id, counted=True)
        else:
            detail = f"{error.detail} The job was tried {job.attempts} times and is given up."
            await self._jobs.fail(job.id, Failure(code=error.code, detail=detail))

    async def _not_loaded(self, job: Job, error: EngineError) -> None:
        """A load that somebody killed is tried again; one that fails by itself would fail again."""
        if error.code == "engine_died" and job.attempts < MAX_STARTS:
            log.warning("job %s: the engine was killed while it loaded; it is run again", job.id)
            await self._jobs.requeue(job.id, counted=True)
        elif error.code == "gpu_busy":  # says nothing of the model: whoever is next waits in its turn
            await self._jobs.fail(job.id, Failure(code=error.code, detail=error.detail))
        else:
            await self._load_failed(job.model, error)

    async def _load_failed(self, model: str, error: EngineError | Refused) -> None:
        """The model cannot be loaded: whoever waits for it is told why."""
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

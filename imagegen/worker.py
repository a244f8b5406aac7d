"""Worker: the model's life. One loop alone owns the adapter and changes its state: load, draw, idle, unload.

Everybody else leaves an order (`cancelled`, `warm`, `unload`, `stop`) and is answered by the loop, so that no
two transitions can race (the lesson of llama-swap's process state machine).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from sqlalchemy.exc import DBAPIError

from imagegen.adapters.base import Adapter, DrawProgress, EngineError, LoadProgress
from imagegen.idle import Decision
from imagegen.idle_memory import IdleMemory
from imagegen.images import StorageError
from imagegen.jobs import MAX_STARTS, Active, JobManager
from imagegen.models.catalog import Entry
from imagegen.pace import Measurement, Pace, cancel_by_kill
from imagegen.reporter import Reporter
from imagegen.schemas import EngineState, Failure, Job, Phase, Progress, Refused, StoredImage
from imagegen.studio import Studio

log = logging.getLogger("imagegen.worker")

FIRST_RETRY_S, LAST_RETRY_S = 30.0, 600.0
"""After a failed load: the next try waits this long, doubling, unless the files change."""
LEAST_STALL_S = 120.0
STALL_FACTOR = 10.0
"""A drawing engine may be silent for max(LEAST_STALL_S, STALL_FACTOR x the longest gap seen)."""


class Stopped(Exception):
    """The service stops and the running job goes back into the queue, not counted."""


class Cancelled(Exception):
    """The running job is no longer wanted."""


@dataclass
class Order:
    """What somebody wants of the loop; `done` is set when it was obeyed (or refused)."""

    what: str  # warm · unload
    done: asyncio.Future[None]
    model: str | None = None


@dataclass(frozen=True)
class EngineView:
    """The engine's state as readers see it; times on the wall clock, POSIX seconds."""

    state: EngineState
    since: float
    model: str | None
    pid: int | None
    load: LoadProgress | None
    load_started: float | None
    error: Failure | None
    decision: Decision | None  # unload_at on the wall clock
    draining_s: float | None  # seconds until a cancelled picture has run out


@dataclass
class Timing:
    """The bounds the worker keeps, in seconds."""

    max_job_s: float
    stall_s: float | None
    shutdown_grace_s: float


class Worker:
    """Runs the queue's jobs one after the other on one engine."""

    def __init__(
        self,
        jobs: JobManager,
        studio: Studio,
        pace: Pace,
        idle: IdleMemory,
        timing: Timing,
        *,
        find_model: Callable[[str], Entry],
        prepare: Callable[[Entry], Awaitable[None]],
        make_adapter: Callable[[Entry], Adapter],
        fingerprint: Callable[[Entry], object],
        measured: Callable[[Sequence[Measurement]], Awaitable[None]],
    ) -> None:
        self._jobs, self._studio, self._pace, self._idle, self._timing = jobs, studio, pace, idle, timing
        self._find_model, self._make_adapter, self._fingerprint = find_model, make_adapter, fingerprint
        self._prepare = prepare
        self._measured, self._new = measured, list[Measurement]()
        self._state, self._since = EngineState.COLD, time.time()
        self._adapter: Adapter | None = None
        self._entry: Entry | None = None
        self._load: LoadProgress | None = None
        self._load_started: float | None = None
        self._error: Failure | None = None
        self._decision: Decision | None = None
        self._drain_until: float | None = None
        self._failed = Backoff()
        self._orders: list[Order] = []
        self._cancelled: set[str] = set()
        self._stop_at: float | None = None  # monotonic; set: the service is stopping
        self._bell = asyncio.Event()
        self._watchers: set[asyncio.Event] = set()

    # ---- what others may do -------------------------------------------------------------------

    def wake(self) -> None:
        """A job was submitted."""
        self._bell.set()

    def cancelled(self, job_id: str) -> None:
        """A job that may be running is no longer wanted."""
        self._cancelled.add(job_id)
        self._bell.set()

    def stop(self) -> None:
        """Finish within the grace, then end the engine; `run` returns."""
        self._stop_at = time.monotonic() + self._timing.shutdown_grace_s
        self._bell.set()

    async def unload(self) -> None:
        """End an idle engine and wait until it is gone. Raises Refused 409 `busy` while a job runs."""
        await self._order("unload")

    def warm(self, model: str) -> None:
        """Load `model` when nothing else is to do; nobody waits for it."""
        order = Order("warm", asyncio.get_running_loop().create_future(), model)
        order.done.add_done_callback(lambda done: done.exception() if not done.cancelled() else None)
        self._orders.append(order)
        self._bell.set()

    async def _order(self, what: str) -> None:
        order = Order(what, asyncio.get_running_loop().create_future())
        self._orders.append(order)
        self._bell.set()
        await order.done

    def view(self) -> EngineView:
        """The state now; reading it wakes nothing."""
        now = time.monotonic()
        decision = self._decision if self._state is EngineState.READY else None
        if decision and decision.unload_at is not None:
            decision = self._idle.decide(now)
            decision = Decision(
                None if decision.unload_at is None else time.time() + decision.unload_at - now, decision.reason
            )
        draining = None if self._drain_until is None else max(0.0, self._drain_until - now)
        return EngineView(
            self._state, self._since, self._entry.name if self._entry else None,
            self._adapter.pid if self._adapter else None, self._load, self._load_started, self._error,
            decision, draining,
        )  # fmt: skip

    # ---- the loop -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Live until `stop`. Leaves no engine process behind, however it ends."""
        try:
            while self._stop_at is None:
                active = self._jobs.next_queued()
                if active is not None and not await self._held_back(active):
                    await self._serve(active)
                elif active is None:
                    await self._rest()
        finally:
            await self._unload("the service stops")
            self._answer_orders(Refused(503, "shutting_down", "The service is stopping."))

    async def _rest(self) -> None:
        """Wait for a job, an order, the engine's death, or the time to unload."""
        timeout = None
        if self._adapter is not None:
            now = time.monotonic()
            self._decision = self._idle.decide(now)
            if self._decision.unload_at is not None:
                timeout = self._decision.unload_at - now
                if timeout <= 0:
                    await self._unload("idle")
                    return
        died = await self._wait(timeout)
        if died:
            await self._engine_died_idle()
        self._cancelled.clear()  # nothing runs
        await self._obey_at_rest()

    async def _wait(self, timeout: float | None, task: asyncio.Task[object] | None = None) -> bool:
        """Sleep until the bell, `task`, the engine's death (True) or the time-out."""
        bell = asyncio.ensure_future(self._bell.wait())
        waiting: set[asyncio.Future[object]] = {bell}  # type: ignore[arg-type]
        if task is not None:
            waiting.add(task)
        death: asyncio.Future[None] | None = None
        if task is None and self._adapter is not None:
            death = asyncio.ensure_future(self._adapter.wait_died())
            waiting.add(death)  # type: ignore[arg-type]
        try:
            await asyncio.wait(waiting, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            return death is not None and death.done()
        finally:
            bell.cancel()
            if death is not None:
                death.cancel()
            self._bell.clear()

    async def _obey_at_rest(self) -> None:
        orders, self._orders = self._orders, []
        for order in orders:
            if order.what == "unload":
                await self._unload("asked for")
            elif self._stop_at is None and self._jobs.next_queued() is None:
                await self._warm_up(order.model or "")
            if not order.done.done():
                order.done.set_result(None)

    def _answer_orders(self, refusal: Refused) -> None:
        orders, self._orders = self._orders, []
        for order in orders:
            if not order.done.done():
                order.done.set_exception(refusal)

    # ---- one job ------------------------------------------------------------------------------

    async def _serve(self, active: Active) -> None:
        """Run one job to its end, whatever happens on the way."""
        try:
            entry = self._find_model(active.model)
        except Refused as unknown:
            await self._jobs.fail(active.id, Failure(code="model_missing", detail=unknown.detail))
            return
        loaded = self._adapter is not None and self._entry is not None and self._entry.name == entry.name
        self._idle.arrived(time.monotonic(), cold=not loaded)
        first = Progress(phase=Phase.ENCODING if loaded else Phase.LOADING, at=time.time())
        try:
            job = await self._jobs.start(active.id, first)
        except DBAPIError as full:
            await self._jobs.fail(active.id, Failure(code="storage_full", detail=_storage_sentence(full)))
            return
        if job is None:
            return
        self._cancelled.discard(job.id)
        started = time.monotonic()
        async with Reporter(self._jobs, job.id) as report:
            try:
                await self._ensure_loaded(entry, job, report)
                self._enter(EngineState.DRAWING)
                await self._draw_all(job, report, started)
            except Cancelled:
                pass
            except Stopped:
                await self._jobs.requeue(job.id, counted=False)
            except EngineError as error:
                await self._engine_failed(job, error)
            except (StorageError, DBAPIError) as full:
                await self._jobs.fail(job.id, Failure(code="storage_full", detail=_storage_sentence(full)))
            except Refused as refused:
                await self._jobs.fail(job.id, Failure(code=refused.code, detail=refused.detail))
            except Exception:
                log.exception("job %s: an error of the service itself", job.id)
                await self._unload("an error of the service")
                detail = "The service failed at this job by an error of its own; its log says more. Try it again."
                await self._jobs.fail(job.id, Failure(code="gave_up", detail=detail))
        if self._adapter is not None:
            self._enter(EngineState.READY)
        self._idle.served(time.monotonic())
        new, self._new = self._new, []
        await self._measured(new)

    async def _draw_all(self, job: Job, report: Reporter, started: float) -> None:
        """Draw the job's pictures and complete it; a job that ends otherwise keeps none of them."""
        images: list[StoredImage] = []
        try:
            warnings = []
            for index in range(job.params.n):
                png = await self._draw(job, index, report, started)
                report(Progress(phase=Phase.SAVING, image=index + 1, at=time.time()))
                image, found = await self._studio.save(job, index, png)
                images.append(image)
                warnings += found
            if await self._jobs.complete(job, images, warnings):
                images = []
                log.info("job %s drawn seconds=%.3f", job.id, time.monotonic() - started)
        finally:
            if images:
                await asyncio.shield(self._studio.discard(images))

    async def _draw(self, job: Job, index: int, report: Reporter, started: float) -> bytes:
        """One picture; minds cancels, the end of the service, silence and the job's time limit."""
        adapter = self._adapter
        assert adapter is not None
        request = await self._studio.prepare(job, index)

        def told(progress: DrawProgress) -> None:
            fraction = progress.step / progress.steps if progress.step is not None and progress.steps else None
            report(
                Progress(
                    phase=progress.phase, step=progress.step, steps=progress.steps, fraction=fraction,
                    image=index + 1, at=time.time(),
                )
            )  # fmt: skip

        task = asyncio.ensure_future(adapter.generate(request, told))
        try:
            while not task.done():
                await self._wait(self._patience(job, started), task)  # type: ignore[arg-type]
                if task.done():
                    break
                self._refuse_orders_while_drawing()
                await self._interrupted(job, report, task, started)
            png = task.result()
        except BaseException:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            raise
        self._note_draw(job)
        return png

    async def _interrupted(
        self, job: Job, report: Reporter, task: asyncio.Task[bytes], started: float
    ) -> None:
        """Judge a running picture: raises Cancelled, Stopped or EngineError if it is broken off."""
        now = time.monotonic()
        if job.id in self._cancelled:
            self._cancelled.discard(job.id)
            await self._break_off(job, report, task)
            raise Cancelled
        if self._stop_at is not None and now >= self._stop_at:
            await self._unload("the service stops")
            raise Stopped
        if now - started >= self._timing.max_job_s:
            await self._unload("a job took too long")
            raise EngineError(
                "gave_up",
                f"The job was stopped after {self._timing.max_job_s:g} s (IMAGEGEN_MAX_JOB_S). "
                "Ask for fewer steps, a smaller picture or fewer pictures.",
            )
        adapter = self._adapter
        if adapter is not None and now - adapter.last_line_at >= self._stall_s(job.model):
            silent = now - adapter.last_line_at
            await self._unload("the engine hangs")
            raise EngineError("engine_hung", f"The engine said nothing for {silent:.0f} s and was ended.")

    async def _break_off(self, job: Job, report: Reporter, task: asyncio.Task[bytes]) -> None:
        """D-05: kill the engine if that is sooner than letting the picture run out."""
        latest = report.latest
        elapsed = time.time() - latest.at if latest else 0.0
        remaining = self._pace.remaining(job.model, job.params.model_copy(update={"n": 1}), latest, elapsed)
        if cancel_by_kill(remaining, self._pace.expect(job.model, "load")):
            await self._unload("a running job was cancelled")
            return
        self._drain_until = None if remaining is None else time.monotonic() + remaining
        self._enter(EngineState.DRAINING)
        adapter = self._adapter
        assert adapter is not None
        try:
            while not task.done():
                await self._wait(1.0, task)  # type: ignore[arg-type]
                self._refuse_orders_while_drawing()
                silent = time.monotonic() - adapter.last_line_at
                if self._stop_at is not None or silent >= self._stall_s(job.model):
                    await self._unload("a cancelled picture did not end")
                    return
            if task.exception() is not None:  # it died of the picture nobody wants
                await self._unload("the engine died")
        finally:
            self._drain_until = None

    def _refuse_orders_while_drawing(self) -> None:
        kept = [order for order in self._orders if order.what == "warm"]
        for order in self._orders:
            if order.what == "unload" and not order.done.done():
                busy = Refused(409, "busy", "A picture is being drawn. Cancel it, or try again when it is done.")
                order.done.set_exception(busy)
            elif order.what == "warm" and not order.done.done():
                order.done.set_result(None)  # it is warm
        self._orders = [order for order in kept if not order.done.done()]

    def _patience(self, job: Job, started: float) -> float:
        """Seconds until something about the running picture has to be judged anew."""
        now = time.monotonic()
        ends = [started + self._timing.max_job_s]
        if self._adapter is not None:
            ends.append(self._adapter.last_line_at + self._stall_s(job.model))
        if self._stop_at is not None:
            ends.append(self._stop_at)
        return max(0.01, min(ends) - now)

    def _stall_s(self, model: str) -> float:
        if self._timing.stall_s is not None:
            return self._timing.stall_s
        return max(LEAST_STALL_S, STALL_FACTOR * (self._pace.slowest(model, "gap") or 0.0))

    def _note_draw(self, job: Job) -> None:
        drawn = self._adapter.last_draw if self._adapter else None
        if drawn is None:
            return
        pixels = job.params.width * job.params.height
        for what, seconds in (
            ("encode", drawn.encode_s),
            ("step", drawn.sample_s / drawn.steps if drawn.steps else None),
            ("decode", drawn.decode_s),
            ("gap", drawn.longest_gap_s),
        ):
            if seconds is not None:
                self._new.append(Measurement(job.model, what, pixels, seconds))  # type: ignore[arg-type]

    # ---- the engine ---------------------------------------------------------------------------

    async def _ensure_loaded(self, entry: Entry, job: Job, report: Reporter) -> None:
        """Have `entry` resident. Raises EngineError, Cancelled or Stopped."""
        if self._adapter is not None and self._entry is not None and self._entry.name == entry.name:
            return
        if self._adapter is not None:
            await self._unload("another model is asked for")

        def told(progress: LoadProgress) -> None:
            self._load = progress
            report(Progress(phase=Phase.LOADING, fraction=progress.fraction, at=time.time()))

        def unwanted() -> bool:
            return job.id in self._cancelled and self._jobs.next_queued() is None

        await self._start_engine(entry, told, unwanted)
        if job.id in self._cancelled:
            self._cancelled.discard(job.id)
            raise Cancelled

    async def _warm_up(self, model: str) -> None:
        if self._adapter is not None and self._entry is not None and self._entry.name == model:
            return
        try:
            entry = self._find_model(model)
            if self._adapter is not None:
                await self._unload("another model is asked for")
            self._idle.arrived(time.monotonic(), cold=True, warmed=True)
            await self._start_engine(entry, self._note_load, lambda: False)
            self._enter(EngineState.READY)
            self._idle.served(time.monotonic(), warmed=True)
        except (EngineError, Refused) as failed:
            await self._load_failed(model, EngineError(failed.code, failed.detail))
        except Stopped:
            pass

    def _note_load(self, progress: LoadProgress) -> None:
        self._load = progress

    async def _start_engine(
        self, entry: Entry, told: Callable[[LoadProgress], None], unwanted: Callable[[], bool]
    ) -> None:
        """Load; raises EngineError, or Cancelled / Stopped when nobody wants it any more."""
        await self._prepare(entry)
        adapter = self._make_adapter(entry)
        self._adapter, self._entry, self._error, self._load = adapter, entry, None, None
        self._load_started = time.time()
        self._enter(EngineState.LOADING)
        began = time.monotonic()
        task = asyncio.ensure_future(adapter.start(told))
        try:
            while not task.done():
                await self._wait(None, task)  # type: ignore[arg-type]
                self._refuse_orders_while_drawing()
                if self._stop_at is not None and not task.done():
                    raise Stopped
                if unwanted() and not task.done():
                    raise Cancelled
            await task
        except BaseException:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self._unload("the load ended early")
            raise
        finally:
            self._load = self._load_started = None
        seconds = time.monotonic() - began
        self._failed.clear()
        self._idle.loaded(entry.name, seconds)
        self._new.append(Measurement(entry.name, "load", 0, seconds))
        log.info("engine ready model=%s seconds=%.3f", entry.name, seconds)

    async def _engine_failed(self, job: Job, error: EngineError) -> None:
        """Decide what an engine's failure means for its job and for those behind it."""
        loading = self._state is EngineState.LOADING or self._state is EngineState.UNLOADING
        while_loading = error.code in {"load_failed", "model_missing", "gpu_busy", "fetch_failed"}
        await self._unload(error.code)
        if while_loading or (loading and error.code == "out_of_vram"):
            await self._load_failed(job.model, error)
            return
        if error.code in {"engine_died", "engine_hung"}:
            if job.attempts < MAX_STARTS:
                log.warning("job %s: %s; it is run again", job.id, error.code)
                await self._jobs.requeue(job.id, counted=True)
                return
            error = EngineError(error.code, f"{error.detail} It was tried {job.attempts} times.")
        await self._jobs.fail(job.id, Failure(code=error.code, detail=error.detail))

    async def _load_failed(self, model: str, error: EngineError) -> None:
        """The model cannot be loaded: whoever waits for it is told, and the next try waits a while."""
        self._error = Failure(code=error.code, detail=error.detail)
        try:
            self._failed.note(model, self._fingerprint(self._find_model(model)))
        except Refused:
            self._failed.note(model, None)
        self._enter(EngineState.FAILED)
        log.error("model %s did not load: %s", model, error.code)
        for waiting in self._jobs.active():
            if waiting.model == model:
                await self._jobs.fail(waiting.id, self._error)

    async def _held_back(self, active: Active) -> bool:
        """True while a job must wait because its model's last load failed just now."""
        if not self._failed.holds(active.model):
            return False
        left = self._failed.left_s()
        try:
            changed = self._fingerprint(self._find_model(active.model)) != self._failed.fingerprint
        except Refused:
            changed = False
        if changed or left <= 0:
            self._failed.release()
            return False
        await self._wait(min(left, 2.0))  # files may be put right meanwhile
        await self._obey_at_rest_failed()
        return True

    async def _obey_at_rest_failed(self) -> None:
        """While held back, an unload has nothing to do and a warm-up has to wait like the jobs."""
        orders, self._orders = self._orders, []
        for order in orders:
            if not order.done.done():
                order.done.set_result(None)

    async def _engine_died_idle(self) -> None:
        log.warning("engine died while idle")
        await self._unload("it died")

    async def _unload(self, reason: str) -> None:
        """End the engine process and wait until it is gone."""
        adapter = self._adapter
        if adapter is None:
            return
        self._enter(EngineState.UNLOADING)
        await asyncio.shield(adapter.stop())
        self._adapter, self._entry, self._decision = None, None, None
        self._idle.unloaded(time.monotonic())
        self._enter(EngineState.COLD)
        log.info("engine unloaded reason=%r", reason)

    def _enter(self, state: EngineState) -> None:
        if state is self._state:
            return
        self._state, self._since = state, time.time()
        log.info("engine %s", state.value)
        self._jobs.bell.ring("engine")


@dataclass
class Backoff:
    """Which model's last load failed, and until when the next try waits."""

    model: str | None = None
    fingerprint: object = None
    until: float = 0.0
    wait_s: float = field(default=FIRST_RETRY_S / 2)

    def note(self, model: str, fingerprint: object) -> None:
        again = model == self.model and fingerprint == self.fingerprint
        self.wait_s = min(self.wait_s * 2, LAST_RETRY_S) if again else FIRST_RETRY_S
        self.model, self.fingerprint, self.until = model, fingerprint, time.monotonic() + self.wait_s

    def holds(self, model: str) -> bool:
        return model == self.model and self.until > 0

    def left_s(self) -> float:
        return self.until - time.monotonic()

    def release(self) -> None:
        """The next try may begin; if it fails too, the wait doubles."""
        self.until = 0.0

    def clear(self) -> None:
        self.model, self.fingerprint, self.until, self.wait_s = None, None, 0.0, FIRST_RETRY_S / 2


def _storage_sentence(failure: Exception) -> str:
    if isinstance(failure, StorageError):
        return str(failure)
    reason = getattr(failure, "orig", failure)
    return f"The state folder cannot be written ({reason}). Free some disk space, then submit the job again."

"""JobRunner: runs one started job: load the model, draw the pictures, store them, complete the job."""

from __future__ import annotations

import asyncio
import logging
import time

from imagegen.engines.base import EngineError, Preview
from imagegen.hardware.memory_mode import MemoryMode
from imagegen.images.png import BrokenPng
from imagegen.jobs.manager import JobManager
from imagegen.schemas import EngineState, Phase, Progress, StoredImage, Warn
from imagegen.telemetry.recorder import Recorder
from imagegen.worker.commands import CommandQueue
from imagegen.worker.job_run import DrawingRun
from imagegen.worker.lifecycle import Cancelled, ModelLifecycle
from imagegen.worker.memory_modes import tried_again
from imagegen.worker.prefetch import Prefetcher
from imagegen.worker.previews import PreviewWriter
from imagegen.worker.processor import ImageProcessor, seed_of
from imagegen.worker.watchdog import Drain, Kill, Watchdog

log = logging.getLogger("imagegen.worker")


class JobRunner:
    """Runs one job at a time and acts on the watchdog's verdicts. Only the worker calls it.

    An exception does not change the job's status: the worker does that.
    """

    def __init__(
        self,
        jobs: JobManager,
        processor: ImageProcessor,
        commands: CommandQueue,
        prefetcher: Prefetcher,
        lifecycle: ModelLifecycle,
        watchdog: Watchdog,
        recorder: Recorder,
    ) -> None:
        self._jobs, self._processor, self._commands, self._prefetcher = jobs, processor, commands, prefetcher
        self._lifecycle, self._watchdog, self._recorder = lifecycle, watchdog, recorder

    async def run(self, run: DrawingRun) -> None:
        """Load the model if needed, draw the pictures that the job does not have yet, complete the job.

        Each picture is visible as soon as it is finished, the last one with the job's end.
        Raises LoadFailed, Cancelled, Stopped, EngineError, Refused, StorageError or DBAPIError.
        """
        await self._load_if_needed(run)
        self._lifecycle.set_state(EngineState.DRAWING)
        job, hidden = run.job, list[StoredImage]()
        has = {image.index for image in job.images}
        missing = [index for index in range(job.params.n) if index not in has]
        try:
            async with PreviewWriter(self._jobs, job, run.entry.preview_look.correction()) as previews:
                for index in missing:
                    png, seed = await self._picture(run, index, previews)
                    pace_s = run.report.latest.step_s if run.report.latest else None
                    run.report.put(Progress(phase=Phase.SAVING, image=index + 1, at=time.time(), step_s=pace_s))
                    hidden.append(await self._store(run, index, seed, png))
                    if index != missing[-1]:
                        if not await self._jobs.add_picture(job, hidden[0], run.found):
                            raise Cancelled
                        hidden.clear()
            if await self._jobs.complete(job, hidden, run.warnings()):
                hidden.clear()
                log.info("job %s drawn seconds=%.3f skipped=%d", job.id, time.monotonic() - run.began, run.skipped)
        except BrokenPng as broken:
            raise EngineError("engine_died", f"The engine's picture was not whole: {broken}") from None
        finally:
            if hidden:
                await self._processor.discard(hidden)

    async def _store(self, run: DrawingRun, index: int, seed: int, png: bytes) -> StoredImage:
        """Cut the background out if that was asked for, and write the picture. Raises BrokenPng, StorageError."""
        png, background = await self._processor.cut_out(run.job, index, png)
        if background is not None and background not in run.found:
            run.found.append(background)
        stored = await self._processor.postprocess(run.job, index, seed, png, background)
        run.note_picture(stored)
        return stored

    async def _load_if_needed(self, run: DrawingRun) -> None:
        """Load the model, or load it again in a tighter memory mode if the job's pictures do not fit in the current."""
        lifecycle = self._lifecycle
        if not lifecycle.is_loaded(run.entry):
            await self._load(run)
            return
        pid = lifecycle.adapter.pid if lifecycle.adapter else None
        tighter = await lifecycle.memory.tighter_for(run.entry, run.shape, lifecycle.plan, pid)
        if tighter is not None:
            await self._load(run, tighter)

    async def _load(self, run: DrawingRun, at_least: MemoryMode | None = None) -> None:
        job = run.job

        def unwanted() -> bool:
            self._commands.answer_while_busy(job.model)
            behind = self._jobs.next_queued()
            return not self._jobs.is_active(job.id) and (behind is None or behind.model != job.model)

        await self._lifecycle.prepare(run.entry, run.report.loading, unwanted)
        self._prefetcher.end()  # `load` starts its own read-ahead
        loaded = await self._lifecycle.load(run.entry, run.report.loading, unwanted, shape=run.shape, at_least=at_least)
        run.note_load(loaded)
        if not self._jobs.is_active(job.id):  # cancelled; the load continued for the next job
            raise Cancelled

    async def _picture(self, run: DrawingRun, index: int, previews: PreviewWriter) -> tuple[bytes, int]:
        """Picture `index` and its seed. Redraws a single-coloured picture once, if the service chose the seed."""
        job = run.job
        seed = seed_of(job, index)
        png = await self._draw_in_some_mode(run, index, seed, previews)
        finding = await self._processor.check_blank(job, png)
        if finding is not None and not job.params.seed_given:
            first, seed = seed, seed_of(job, index, attempt=1)
            detail = f"With seed {first} the picture was one single colour, so it was drawn again with seed {seed}."
            run.found.append(Warn(code="drawn_again", detail=detail))
            png = await self._draw_in_some_mode(run, index, seed, previews)
            finding = await self._processor.check_blank(job, png)
        if finding is not None:
            run.found.append(Warn(code=finding.code, detail=finding.detail))
        return png, seed

    async def _draw_in_some_mode(self, run: DrawingRun, index: int, seed: int, previews: PreviewWriter) -> bytes:
        """Draw one picture, once again in a tighter memory mode each time the memory runs out."""
        tries = 0
        while True:
            plan = self._lifecycle.plan
            try:
                return await self._draw(run, index, seed, previews)
            except EngineError as error:
                if error.code != "out_of_vram":
                    raise
                tries += 1
                await self._lifecycle.unload("out of memory")
                memory = self._lifecycle.memory
                at_least = await memory.after_shortage(run.entry, run.shape, plan, error, tries=tries)
            await self._load(run, at_least)
            self._lifecycle.set_state(EngineState.DRAWING)
            run.found.append(tried_again("drawing", plan, self._lifecycle.plan))

    async def _draw(self, run: DrawingRun, index: int, seed: int, previews: PreviewWriter) -> bytes:
        """Draw one picture under the watchdog, as PNG. Raises Cancelled, and the error of a `Kill` verdict."""
        request = await self._processor.preprocess(run.job, seed)
        adapter = self._lifecycle.adapter
        assert adapter is not None

        def seen(preview: Preview) -> None:
            previews.put((index + 1, preview))

        on_progress = run.report.drawing(index + 1)
        peak = self._lifecycle.watch_memory()
        task = asyncio.create_task(adapter.generate(request, on_progress, None if request.preview is None else seen))
        try:
            async with peak:
                verdict = await self._watchdog.attend(task, adapter, run)
            if isinstance(verdict, Drain):
                self._lifecycle.set_state(EngineState.DRAINING)
                verdict = await self._watchdog.drain(task, adapter, run, verdict)
                if verdict is None:
                    raise Cancelled
            if isinstance(verdict, Kill):
                await self._lifecycle.unload(verdict.reason)
                raise verdict.error
            png = task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if not self._jobs.is_active(run.job.id):
            raise Cancelled
        if (drawn := adapter.last_draw) is not None:
            run.note_draw(drawn)
            await self._lifecycle.learn_memory(run.shape, peak.peak_bytes)
            self._recorder.drew(run.job.model, drawn)
        return png

"""UpscaleRunner: runs one started upscale: enlarge the picture, store the result, complete the job.

A network runs in a process of its own, beside the model that is loaded. Only if memory is short for the smallest tile,
the model is unloaded.
"""

from __future__ import annotations

import asyncio
import logging
import mmap
import time
from time import monotonic

from imagegen.engines.base import INTERRUPTED, EngineError
from imagegen.engines.sdcpp.upscaler import TILES_PX, EsrganUpscaler
from imagegen.images import upscale
from imagegen.images.png import BrokenPng
from imagegen.jobs.manager import JobManager
from imagegen.models.download.progress import Fetching
from imagegen.schemas import Phase, Progress
from imagegen.worker.job_run import UpscaleRun
from imagegen.worker.lifecycle import Cancelled, ModelLifecycle
from imagegen.worker.processor import ImageProcessor
from imagegen.worker.provider import EngineProvider
from imagegen.worker.watchdog import Drain, Kill, Watchdog

log = logging.getLogger("imagegen.worker")


class UpscaleRunner:
    """Runs one upscale at a time. Only the worker calls it. An exception does not change the job's status."""

    def __init__(
        self,
        jobs: JobManager,
        processor: ImageProcessor,
        provider: EngineProvider,
        lifecycle: ModelLifecycle,
        watchdog: Watchdog,
    ) -> None:
        self._jobs, self._processor, self._provider = jobs, processor, provider
        self._lifecycle, self._watchdog = lifecycle, watchdog

    async def run(self, run: UpscaleRun) -> None:
        """Enlarge the picture of `run` and complete the job.

        Raises Cancelled, Stopped, EngineError with `draws_on` (the loaded model goes on), Refused, StorageError,
        DBAPIError.
        """
        work = _Upscale(run, self._processor, self._provider, self._lifecycle)
        try:
            png = await self._watched(work, run)
        except BrokenPng as broken:
            raise EngineError("draw_failed", f"The picture cannot be enlarged: {broken}", draws_on=True) from None
        except EngineError as error:
            raise EngineError(error.code, error.detail, draws_on=True) from error
        run.report.put(Progress(phase=Phase.SAVING, at=time.time()))
        images = [await self._processor.postprocess_upscale(run.job, png)]
        run.note_picture(images[0])
        try:
            if await self._jobs.complete(run.job, images, run.warnings()):
                images = []
                log.info("job %s enlarged seconds=%.3f", run.job.id, monotonic() - run.began)
        finally:
            await self._processor.discard(images)

    async def _watched(self, work: _Upscale, run: UpscaleRun) -> bytes:
        """The enlarged PNG, made under the watchdog. Raises Cancelled, and the error of a `Kill` verdict."""
        task = work.start()
        try:
            verdict = await self._watchdog.attend(task, work, run)
            if isinstance(verdict, Drain):
                verdict = await self._watchdog.drain(task, work, run, verdict)
                if verdict is None:
                    raise Cancelled
            if isinstance(verdict, Kill):
                raise verdict.error
            png = task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if not self._jobs.is_active(run.job.id):
            raise Cancelled
        return png


class _Upscale:
    """The work of one upscale, which can be interrupted at any time."""

    def __init__(
        self, run: UpscaleRun, processor: ImageProcessor, provider: EngineProvider, lifecycle: ModelLifecycle
    ) -> None:
        self._run, self._processor, self._provider, self._lifecycle = run, processor, provider, lifecycle
        self._network: EsrganUpscaler | None = None
        self._heard_at = self._began = monotonic()
        self._longest_gap_s = 0.0
        self._work: asyncio.Task[bytes] | None = None

    @property
    def last_line_at(self) -> float:
        return max(self._heard_at, self._network.last_line_at if self._network else 0.0)

    def interrupt(self) -> bool:
        return self._work is not None and self._work.cancel()

    def start(self) -> asyncio.Task[bytes]:
        """The task that makes the enlarged PNG. It raises EngineError `interrupted` after `interrupt`."""
        return asyncio.create_task(self._until_interrupted())

    async def _until_interrupted(self) -> bytes:
        self._work = asyncio.create_task(self._enlarge())
        try:
            return await self._work
        except asyncio.CancelledError:
            if self._work.cancelled() and not asyncio.current_task().cancelling():  # type: ignore[union-attr]
                raise EngineError(INTERRUPTED, "The upscale was interrupted.") from None
            raise
        finally:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)

    async def _enlarge(self) -> bytes:
        params = self._run.job.params
        assert params.factor is not None
        if params.method == "lanczos":
            png = await self._processor.preprocess_upscale(self._run.job)
            self._begin()
            enlarged = await asyncio.to_thread(upscale.lanczos, png, params.factor)
        else:
            upscaler = self._provider.find_upscaler(self._run.job.model)
            self._network = await self._provider.prepare_upscaler(upscaler, self._fetching)
            png = await self._processor.preprocess_upscale(self._run.job)
            source = await asyncio.to_thread(upscale.decode, png)
            self._begin()
            pixels = await self._by_network(self._network, source)
            enlarged = await asyncio.to_thread(upscale.encode, source, pixels, params.factor)
        self._run.note_upscale(monotonic() - self._began, self._longest_gap_s)
        return enlarged

    async def _by_network(self, network: EsrganUpscaler, source: upscale.Source) -> mmap.mmap:
        """The pixels by the network, in smaller tiles if memory is short; at last without the loaded model."""
        short: EngineError | None = None
        for beside_model in (True, False):
            if not beside_model:
                if self._lifecycle.adapter is None:
                    break
                await self._lifecycle.unload("an upscale needs its memory")
            for tile_px in TILES_PX:
                try:
                    return await network.enlarge(source.rgb, source.width, source.height, tile_px, self._tile)
                except EngineError as error:
                    if error.code != "out_of_vram":
                        raise
                    log.info("job %s: no memory for tiles of %d px", self._run.job.id, tile_px)
                    short = error
        assert short is not None
        raise short

    def _begin(self) -> None:
        """Start the clock, without the wait for files."""
        self._began = self._heard_at = self._run.began = monotonic()
        self._run.report.put(Progress(phase=Phase.UPSCALING, fraction=0.0, at=time.time()))

    def _tile(self, done: int, of: int) -> None:
        now = monotonic()
        self._longest_gap_s = max(self._longest_gap_s, now - self._heard_at)
        self._heard_at = now
        whole_s = (now - self._began) * of / done
        progress = Progress(phase=Phase.UPSCALING, fraction=done / of, at=time.time(), step_s=whole_s)
        self._run.report.put(progress)

    def _fetching(self, now: Fetching) -> None:
        self._heard_at = monotonic()
        self._run.report.loading(now)

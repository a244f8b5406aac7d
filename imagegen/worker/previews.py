"""Encodes the engine's previews for readers: one at a time, always the newest."""

from __future__ import annotations

import asyncio
import logging

from imagegen.engines.base import Preview
from imagegen.images.preview_colours import PreviewColours
from imagegen.images.previews import encode_preview
from imagegen.jobs.manager import JobManager
from imagegen.jobs.previews import StoredPreview
from imagegen.schemas import Job

log = logging.getLogger("imagegen.worker")

EVERY_S = 0.2
"""The least time between two previews: a fast engine makes them faster than a page can fade them in."""


class PreviewWriter:
    """Takes every preview of a job; a background task encodes them in a thread."""

    def __init__(self, jobs: JobManager, job: Job, colours: PreviewColours | None) -> None:
        self._jobs, self._job, self._colours = jobs, job, colours
        self._waiting: tuple[int, Preview] | None = None
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __call__(self, image: int, preview: Preview) -> None:
        """image: the number of the job's picture, from 1."""
        self._waiting = image, preview
        self._news.set()

    async def __aenter__(self) -> PreviewWriter:
        self._task = asyncio.create_task(self._write())
        return self

    async def __aexit__(self, *_exc: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _write(self) -> None:
        params = self._job.params
        while True:
            await self._news.wait()
            self._news.clear()
            if self._waiting is None:
                continue
            image, preview = self._waiting
            try:
                data = await asyncio.to_thread(
                    encode_preview,
                    preview.rgb,
                    (preview.width, preview.height),
                    (params.width, params.height),
                    self._colours,
                )
            except (OSError, ValueError) as odd:  # a failed preview must not fail the job
                log.warning("job %s: a preview cannot be encoded (%s)", self._job.id, odd)
                continue
            self._jobs.show(StoredPreview(self._job.id, image, preview.step, params.steps, data))
            await asyncio.sleep(EVERY_S)

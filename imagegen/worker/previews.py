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
from imagegen.worker.newest import NewestWriter

log = logging.getLogger("imagegen.worker")

EVERY_S = 0.2
"""The least time between two previews: a fast engine makes them faster than a page can fade them in."""


class PreviewWriter(NewestWriter[tuple[int, Preview]]):
    """Takes every preview of a job, with the number of its picture from 1, and encodes the newest in a thread."""

    def __init__(self, jobs: JobManager, job: Job, colours: PreviewColours | None) -> None:
        super().__init__()
        self._jobs, self._job, self._colours = jobs, job, colours

    async def _write(self) -> None:
        params = self._job.params
        while True:
            image, preview = await self._next()
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

"""Writes the newest progress to the job's row, at most twice a second (D-04)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from sqlalchemy.exc import DBAPIError

from imagegen.engines.base import DrawProgress, LoadProgress
from imagegen.jobs.manager import JobManager
from imagegen.models.download.progress import Fetching
from imagegen.schemas import Phase, Progress
from imagegen.storage.database import storage_failure
from imagegen.worker.newest import NewestWriter

log = logging.getLogger("imagegen.worker")

EVERY_S = 0.5


class ProgressWriter(NewestWriter[Progress]):
    """Takes every progress report of a job and writes the newest. A full disk does not fail the job."""

    def __init__(self, jobs: JobManager, job_id: str) -> None:
        super().__init__()
        self._jobs, self._job_id = jobs, job_id

    def loading(self, now: LoadProgress | Fetching) -> None:
        """Report the progress of a load, a wait for the GPU, or a download."""
        if isinstance(now, Fetching):
            self.put(fetching(now))
        elif now.waits_for is not None:
            self.put(Progress(phase=Phase.WAITING_GPU, detail=now.waits_for, at=time.time()))
        else:
            self.put(
                Progress(
                    phase=Phase.LOADING,
                    fraction=now.fraction,
                    bytes_done=now.bytes_done,
                    bytes_total=now.bytes_total,
                    at=time.time(),
                )
            )

    def drawing(self, image: int) -> Callable[[DrawProgress], None]:
        """Report that picture `image` (from 1) begins. Returns the callback for its progress."""
        pace_s = self.latest.step_s if self.latest else None  # seconds per step of the job's previous picture

        def on_progress(now: DrawProgress) -> None:
            done, total = (now.tile, now.tiles) if now.tile is not None else (now.step, now.steps)
            fraction = done / total if done is not None and total else None
            self.put(
                Progress(
                    phase=now.phase,
                    step=now.step,
                    steps=now.steps,
                    fraction=fraction,
                    image=image,
                    at=time.time(),
                    step_s=now.step_s if now.step_s is not None else pace_s,
                )
            )

        self.put(Progress(phase=Phase.ENCODING, image=image, at=time.time(), step_s=pace_s))
        return on_progress

    async def _write(self) -> None:
        while True:
            progress = await self._next(collect_s=EVERY_S)  # at most one write per interval
            try:
                await asyncio.shield(self._jobs.report(self._job_id, progress))
            except DBAPIError as full:
                log.warning("job %s: its progress cannot be written (%s)", self._job_id, storage_failure(full))


def fetching(now: Fetching) -> Progress:
    """The progress of a download, as a job's progress."""
    return Progress(
        phase=Phase.FETCHING,
        fraction=now.fraction,
        bytes_done=now.done_bytes,
        bytes_total=now.total_bytes or None,
        left_s=None if now.left_s is None else round(now.left_s, 1),
        detail=now.words,
        at=time.time(),
    )

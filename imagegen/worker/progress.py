"""Progress on its way to the job's row: the newest wins, at most two writes a second (D-04)."""

from __future__ import annotations

import asyncio
import logging
import time

from sqlalchemy.exc import DBAPIError

from imagegen.jobs.manager import JobManager
from imagegen.models.download.progress import Fetching
from imagegen.schemas import Phase, Progress

log = logging.getLogger("imagegen.worker")

EVERY_S = 0.5


class ProgressWriter:
    """Call it with every progress; a task of its own writes. A full disk costs progress, not the job."""

    def __init__(self, jobs: JobManager, job_id: str) -> None:
        self._jobs, self._job_id = jobs, job_id
        self.latest: Progress | None = None
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __call__(self, progress: Progress) -> None:
        self.latest = progress
        self._news.set()

    async def __aenter__(self) -> ProgressWriter:
        self._task = asyncio.create_task(self._write())
        return self

    async def __aexit__(self, *_exc: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _write(self) -> None:
        while True:
            await self._news.wait()
            await asyncio.sleep(EVERY_S)  # a picture that takes less needs no row of its own
            self._news.clear()
            if self.latest is None:
                continue
            try:
                await asyncio.shield(self._jobs.report(self._job_id, self.latest))
            except DBAPIError as full:
                log.warning("job %s: its progress cannot be written (%s)", self._job_id, full.orig)


def fetching(now: Fetching) -> Progress:
    """A download as a job's progress."""
    return Progress(
        phase=Phase.FETCHING,
        fraction=now.fraction,
        bytes_done=now.done_bytes,
        bytes_total=now.total_bytes or None,
        left_s=None if now.left_s is None else round(now.left_s, 1),
        detail=now.words,
        at=time.time(),
    )

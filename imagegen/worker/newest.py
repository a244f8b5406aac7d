"""NewestWriter: writes the newest of many reports in a background task."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from typing import Generic, Self, TypeVar

log = logging.getLogger("imagegen.worker")

T = TypeVar("T")


class NewestWriter(ABC, Generic[T]):
    """Takes reports at any rate; a background task, which runs inside `async with`, writes the newest of them.

    The task's failure is logged at the end of the block. It does not fail the job.
    """

    def __init__(self) -> None:
        self.latest: T | None = None
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def put(self, report: T) -> None:
        """Replace a report that is not written yet."""
        self.latest = report
        self._news.set()

    @abstractmethod
    async def _write(self) -> None:
        """Write reports until cancelled; `_next` waits for each."""

    async def _next(self, collect_s: float = 0.0) -> T:
        """Wait for a new report. Returns the newest one after `collect_s` more seconds."""
        await self._news.wait()
        if collect_s:
            await asyncio.sleep(collect_s)
        self._news.clear()
        assert self.latest is not None
        return self.latest

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._write())
        return self

    async def __aexit__(self, *_exc: object) -> None:
        assert self._task is not None
        self._task.cancel()
        (end,) = await asyncio.gather(self._task, return_exceptions=True)
        if isinstance(end, Exception):
            log.error("an error of the service while writing the newest report", exc_info=end)

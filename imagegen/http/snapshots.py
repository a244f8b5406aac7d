"""Database reads shared by event streams: one notification may wake hundreds of streams that need the same row."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from typing import Any

from pydantic import BaseModel

from imagegen.app import App
from imagegen.http import serialize
from imagegen.http.responses.status import ServiceStatus
from imagegen.schemas import Job

FRESH_S = 0.25
"""Share reads for at most this many seconds, since they contain ETAs, or until the next notification."""


class Snapshots:
    """Reads each row once after a notification. Only readers woken before a read started share it."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._rings, self._since = -1, 0.0
        self._reads: dict[str, asyncio.Task[Any]] = {}
        self._texts: dict[tuple[str, int, str], str] = {}

    async def job(self, job_id: str) -> Job:
        """The job, without renewing its lease. Raises Refused 404, 410."""
        job: Job = await self._read(job_id, lambda: self._app.jobs.get(job_id, renew=False))
        return job

    async def status(self) -> ServiceStatus:
        """The same as `/api/status`."""
        status: ServiceStatus = await self._read("status", lambda: serialize.status(self._app))
        return status

    def text(self, job: Job, base: str) -> str:
        """The job as JSON on one line."""
        self._forget()
        key = job.id, job.revision, base
        if key not in self._texts:
            self._texts[key] = one_line(serialize.job(self._app, job, base))
        return self._texts[key]

    async def _read(self, key: str, read: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        self._forget()
        if key not in self._reads:
            self._reads[key] = asyncio.create_task(read())
        return await asyncio.shield(self._reads[key])  # cancelling one reader must not cancel the read

    def _forget(self) -> None:
        rings, now = self._app.jobs.changes.version, time.monotonic()
        if rings != self._rings or now - self._since > FRESH_S:
            self._rings, self._since = rings, now
            self._reads, self._texts = {}, {}


def one_line(data: BaseModel | dict[str, Any]) -> str:
    if isinstance(data, BaseModel):
        data = data.model_dump(mode="json")
    return json.dumps(data, separators=(",", ":"))

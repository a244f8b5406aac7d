"""Snapshots that readers share: one ring may wake hundreds of them, and all want the same row."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from typing import Any

from pydantic import BaseModel

from imagegen.app import App
from imagegen.http import serialize
from imagegen.http.responses import ServiceStatus
from imagegen.schemas import Job

FRESH_S = 0.25
"""An ETA is shared for so long; a row until the next ring."""


class Snapshots:
    """Reads each row once after a ring. A read is shared only by those that were woken before it began."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._rings, self._since = -1, 0.0
        self._reads: dict[str, asyncio.Task[Any]] = {}
        self._texts: dict[tuple[str, int, str], str] = {}

    async def job(self, job_id: str) -> Job:
        """The row, without renewing its lease. Raises Refused 404, 410."""
        job: Job = await self._read(job_id, lambda: self._app.jobs.get(job_id, renew=False))
        return job

    async def status(self) -> ServiceStatus:
        """As `/api/status`."""
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
        return await asyncio.shield(self._reads[key])  # a reader that leaves does not end it for the others

    def _forget(self) -> None:
        rings, now = self._app.jobs.changes.version, time.monotonic()
        if rings != self._rings or now - self._since > FRESH_S:
            self._rings, self._since = rings, now
            self._reads, self._texts = {}, {}


def one_line(data: BaseModel | dict[str, Any]) -> str:
    if isinstance(data, BaseModel):
        data = data.model_dump(mode="json")
    return json.dumps(data, separators=(",", ":"))

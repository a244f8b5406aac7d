"""Leases: a job with a lease ends when no client reads it for the lease's duration.

Leases are kept in memory only. After a restart each one starts again, so that clients have time to reconnect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


class Leases:
    """One timer per job. All calls must come from one event loop."""

    def __init__(self, ran_out: Callable[[str, float], Awaitable[None]]) -> None:
        """`ran_out(job_id, seconds)` ends a job that no client has read for `seconds`."""
        self._ran_out = ran_out
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._ending: set[asyncio.Task[None]] = set()  # asyncio keeps no strong reference to a task

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._timers

    def start(self, job_id: str, seconds: float) -> None:
        """Start or restart the job's lease."""
        self.drop(job_id)
        self._timers[job_id] = asyncio.get_running_loop().call_later(seconds, self._end, job_id, seconds)

    def drop(self, job_id: str) -> None:
        if timer := self._timers.pop(job_id, None):
            timer.cancel()

    def clear(self) -> None:
        for job_id in list(self._timers):
            self.drop(job_id)

    def _end(self, job_id: str, seconds: float) -> None:
        self._timers.pop(job_id, None)

        async def end() -> None:
            await self._ran_out(job_id, seconds)

        task = asyncio.get_running_loop().create_task(end())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

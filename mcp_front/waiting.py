"""Wait for a job within one tool call: progress, outages, cancellation, and the lease."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio
from fastmcp import Context
from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from imagegen_client.progress import describe
from imagegen_client.watch import Watch
from mcp_front.answers import Job, ServiceError
from mcp_front.client import Service
from mcp_front.progress import advance

log = logging.getLogger(__name__)

LEASE_S = 60
"""The service cancels a leased job that no client has read for this long."""

POLL_S = 1.0
"""How often a client that shows progress gets an update. The service updates it at most twice a second."""

SILENT_POLL_S = 20.0
"""Well under the lease time; every read renews the lease."""

HEARTBEAT_S = 5.0
"""Unchanged progress is repeated, because clients treat a silent call as dead."""

OUTAGE_S = 30.0
"""How long a call waits for a restart of the service. The job is durable and runs again."""

BETWEEN_READS_S = 0.25
CANCEL_S = 5.0
NOTICE_S = 0.5


class CancelNotices(Middleware):
    """Records which running calls the client cancelled.

    A tool sees the same CancelledError after `notifications/cancelled` and after a lost connection. The first cancels
    the job; after the second the job's lease decides.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, anyio.Event] = {}

    async def on_notification(self, context: MiddlewareContext[Any], call_next: CallNext[Any, Any]) -> Any:
        if context.method == "notifications/cancelled":
            message = context.message
            params = message if isinstance(message, dict) else message.model_dump(by_alias=True)
            params = params.get("params", params) or {}
            if event := self._waiting.get(str(params.get("requestId"))):
                event.set()
        return await call_next(context)

    @contextmanager
    def watching(self, request_id: str) -> Iterator[anyio.Event]:
        event = self._waiting[request_id] = anyio.Event()
        try:
            yield event
        finally:
            self._waiting.pop(request_id, None)


def reports_progress(ctx: Context) -> bool:
    """Whether the client asked for progress notifications."""
    request = ctx.request_context
    return bool(request and request.meta and request.meta.get("progressToken") is not None)


@asynccontextmanager
async def cancelling(service: Service, job_id: str, ctx: Context, notices: CancelNotices) -> AsyncIterator[None]:
    """Cancels the job if the client cancels the call. After a lost connection the job's lease decides."""
    with notices.watching(ctx.request_id) as noticed:
        try:
            yield
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True), anyio.move_on_after(CANCEL_S):
                if await _on_purpose(ctx, noticed):
                    await _cancel(service, job_id)
            raise


async def _on_purpose(ctx: Context, noticed: anyio.Event) -> bool:
    if ctx.transport == "streamable-http":
        # Since protocol 2026-07-28 closing the response stream cancels the call; before, it had no meaning.
        request = ctx.request_context
        return bool(request and request.protocol_version in MODERN_PROTOCOL_VERSIONS)
    with anyio.move_on_after(NOTICE_S):  # the notification arrives just after the call is interrupted
        await noticed.wait()
    return noticed.is_set()


async def _cancel(service: Service, job_id: str) -> None:
    try:
        await service.cancel(job_id)
        log.info("job %s cancelled by the client", job_id)
    except ServiceError as failed:
        log.warning("job %s could not be cancelled, its lease will end it: %s", job_id, failed)


async def until_ended(service: Service, job: Job, deadline: float, ctx: Context) -> Job:
    """Read the job until it ends or `anyio.current_time` reaches `deadline`. Returns the last reading.

    Raises ServiceError, for an unreachable service only after OUTAGE_S.
    """
    async for now in _readings(service, job, deadline, ctx):
        job = now
        if job.ended:
            break
    return job


async def until_news(service: Service, job: Job, deadline: float, ctx: Context) -> Job:
    """Like until_ended, but returns at any change of status."""
    first = job.status
    async for now in _readings(service, job, deadline, ctx):
        job = now
        if job.ended or job.status != first:
            break
    return job


async def _readings(service: Service, job: Job, deadline: float, ctx: Context) -> AsyncIterator[Job]:
    news = _News(ctx)
    step_s = POLL_S if reports_progress(ctx) else SILENT_POLL_S
    watch = Watch(job, least_s=BETWEEN_READS_S, outage_s=OUTAGE_S)
    while (update := await service.next(watch)) is not None:
        if update.trouble is None:
            await news.tell(update.state)
            yield update.state
        left = deadline - anyio.current_time()
        if left <= 0:
            return
        watch.poll_s = min(left, step_s)


class _News:
    """Progress notifications of one call, on a change and as a heartbeat."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._last = 0.0
        self._said: str | None = None
        self._said_at = 0.0

    async def tell(self, job: Job) -> None:
        words, now = describe(job), anyio.current_time()
        if words == self._said and now - self._said_at < HEARTBEAT_S:
            return
        self._last, self._said, self._said_at = advance(self._last, job), words, now
        await self._ctx.report_progress(self._last, 100.0, words)

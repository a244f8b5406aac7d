"""Server-sent events: frames, heartbeats, and slow or disconnected clients."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator

from sqlalchemy.exc import DBAPIError
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Message, Send

from imagegen.storage.postgres_errors import is_unavailable

log = logging.getLogger("imagegen.http")

HEARTBEAT_S = 15.0
STUCK_S = 20.0
"""Disconnect a client that reads nothing for this many seconds. A browser's EventSource reconnects automatically."""
RETRY = b"retry: 2000\n\n"
HEARTBEAT = b": still here\n\n"

Frames = AsyncGenerator[bytes, None]


def frame(event: str, line: str, event_id: int | None = None) -> bytes:
    """Encode one event. `line` is JSON without line breaks."""
    head = f"event: {event}\n" if event_id is None else f"event: {event}\nid: {event_id}\n"
    return f"{head}data: {line}\n\n".encode()


def last_event_id(request: Request) -> int | None:
    """The Last-Event-ID of a reconnecting client; None if missing or not an id of this service."""
    text = request.headers.get("last-event-id", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


class EventStream(StreamingResponse):
    """Sends `frames` as fast as the client reads them, without buffering.

    sse-starlette is not used: it replaces uvicorn's signal handling to detect shutdown, which `App.stopping` already
    reports.
    """

    media_type = "text/event-stream"

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        super().__init__(frames, headers={"cache-control": "no-store", "x-accel-buffering": "no"})

    async def stream_response(self, send: Send) -> None:
        async def bounded(message: Message) -> None:
            async with asyncio.timeout(STUCK_S):
                await send(message)

        try:
            await super().stream_response(bounded)
        except TimeoutError:
            log.info("a reader of events took nothing for %.0f s and was let go", STUCK_S)
        except DBAPIError as lost:
            if not is_unavailable(lost):
                raise
            log.info("a stream of events ends, because the database server cannot be reached; its reader comes again")
            await bounded({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            await self._frames.aclose()  # run its `finally` now, not at garbage collection


async def rung(event: asyncio.Event, timeout_s: float) -> bool:
    """Wait for `event`. Returns False after `timeout_s` seconds, or at once if `timeout_s` is not positive."""
    if timeout_s <= 0:
        return False
    try:
        await asyncio.wait_for(event.wait(), timeout_s)
    except TimeoutError:
        return False
    return True

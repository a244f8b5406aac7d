"""Server-sent events on the wire: frames, heartbeats, and readers that are slow or gone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Message, Send

log = logging.getLogger("imagegen.http")

HEARTBEAT_S = 15.0
STUCK_S = 20.0
"""A reader who takes nothing for so long is let go; a browser's EventSource comes back by itself."""
RETRY = b"retry: 2000\n\n"
HEARTBEAT = b": still here\n\n"

Frames = AsyncGenerator[bytes, None]


def frame(event: str, line: str, event_id: int | None = None) -> bytes:
    """One event; `line` is JSON without line breaks."""
    head = f"event: {event}\n" if event_id is None else f"event: {event}\nid: {event_id}\n"
    return f"{head}data: {line}\n\n".encode()


def last_event_id(request: Request) -> int | None:
    """The id of the last event that a reconnecting reader saw; None for a new one, or one that is not ours."""
    text = request.headers.get("last-event-id", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


class EventStream(StreamingResponse):
    """Sends what `frames` yields as fast as the reader takes it, and nothing is kept for it in between.

    Starlette's own and not sse-starlette's: that one replaces uvicorn's signal handling to learn of the stop,
    which is ours already (`App.stopping`).
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
        finally:
            await self._frames.aclose()  # its finally runs now, not when the garbage is collected


async def rung(event: asyncio.Event, timeout_s: float) -> bool:
    """Wait for `event`; False once `timeout_s` seconds have passed without it, or at once if they have."""
    if timeout_s <= 0:
        return False
    try:
        await asyncio.wait_for(event.wait(), timeout_s)
    except TimeoutError:
        return False
    return True

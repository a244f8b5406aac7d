"""Keeps blocking calls alive through proxies, which close connections that stay silent.

The request is validated first; an error then has its own status. After IMAGEGEN_KEEPALIVE_S the response starts with
status 200 and whitespace, which JSON allows before a value. A later failure is an error object in the body.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from sqlalchemy.exc import DBAPIError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Send

from imagegen.http.context import app_of
from imagegen.http.problems import problem_json
from imagegen.http.snapshots import one_line
from imagegen.http.wait import PATIENCE_S, completed, ended_within, release, too_long, until_ended
from imagegen.schemas import Job, Refused
from imagegen.storage.database import storage_failure
from imagegen.storage.errors import StorageError

log = logging.getLogger("imagegen.http")

Body = Callable[[Job], Awaitable[Any]]
"""Builds the response JSON of a completed job. Raises Refused, StorageError."""
Error = Callable[[dict[str, Any]], Any]
"""Converts a problem document to the API's own error format."""


async def answered(request: Request, job: Job, body: Body, error: Error) -> Response:
    """The response to a blocking call whose job was accepted.

    Raises Refused and ClientDisconnect before the response has started.
    """
    app, held = app_of(request), False
    end = asyncio.create_task(until_ended(app, job.id))
    try:
        if await ended_within(request, end, app.settings.keepalive_s):
            return JSONResponse(await body(completed(end.result())))
        held = True
        return _Held(_pieces(request, job, end, body, error))
    finally:
        if not held:
            release(request, job.id, end)


async def _pieces(
    request: Request, job: Job, end: asyncio.Task[Job], body: Body, error: Error
) -> AsyncGenerator[bytes, None]:
    interval_s = app_of(request).settings.keepalive_s
    waited_s = interval_s
    answer: Any
    try:
        while not end.done():
            yield b" "
            if waited_s >= PATIENCE_S:
                raise too_long()
            await asyncio.wait({end}, timeout=interval_s)
            waited_s += interval_s
        answer = await body(completed(end.result()))
    except Refused as refused:
        answer = error(problem_json(refused.status, refused.code, refused.detail))
    except (DBAPIError, StorageError) as lost:
        failure = storage_failure(lost)
        log.error("the state folder fails: %s", failure)
        answer = error(problem_json(500, failure.code, f"{failure} The picture cannot be sent."))
    except Exception as unexpected:
        log.error("internal error while answering a blocking call", exc_info=unexpected)
        answer = error(
            problem_json(500, "internal", "Internal error while answering this request. See the service log.")
        )
    finally:
        release(request, job.id, end)
    yield one_line(answer).encode()


class _Held(StreamingResponse):
    """Streams the pieces and closes their generator as soon as the client disconnects."""

    media_type = "application/json"

    def __init__(self, pieces: AsyncGenerator[bytes, None]) -> None:
        self._pieces = pieces
        super().__init__(pieces, headers={"cache-control": "no-store", "x-accel-buffering": "no"})

    async def stream_response(self, send: Send) -> None:
        try:
            await super().stream_response(send)
        finally:
            await self._pieces.aclose()  # run its `finally` now, not at garbage collection

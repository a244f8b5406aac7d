"""The engine's HTTP API on a Unix socket, for one client: `GET /ready`, `POST /draw/7` (returns a PNG),
`POST /interrupt/7`.

The client numbers its pictures in ascending order, so an interrupt can arrive before its picture.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from imagegen.engines.glm.server.request import MAX_BODY_BYTES, DrawRequestBody

Draw = Callable[[DrawRequestBody, Event], bytes]


class TooLarge(Exception):
    """The body is longer than MAX_BODY_BYTES."""


class Server:
    """Draws one order at a time in a separate thread, so that the server can answer meanwhile.

    explain: converts an error of `draw` into a status and a sentence.
    """

    def __init__(self, draw: Draw, explain: Callable[[Exception, DrawRequestBody], tuple[int, str]]) -> None:
        self._draw, self._explain = draw, explain
        self._hand = ThreadPoolExecutor(max_workers=1, thread_name_prefix="painter")
        self._stops: dict[int, Event] = {}  # by number of the pictures that are drawn, wait or are being received
        self._over = 0  # pictures up to this number are interrupted, including those that have not arrived
        self.app = Starlette(
            routes=[
                Route("/ready", self.ready),
                Route("/draw/{picture:int}", self.draw, methods=["POST"]),
                Route("/interrupt/{picture:int}", self.interrupt, methods=["POST"]),
            ],
            lifespan=_deaf,
        )

    async def ready(self, _request: Request) -> Response:
        return JSONResponse({"status": "ready"})

    async def interrupt(self, request: Request) -> Response:
        """Interrupt all pictures up to this number; a picture that has not arrived is interrupted on arrival."""
        self._over = max(self._over, request.path_params["picture"])
        for picture, stop in self._stops.items():
            if picture <= self._over:
                stop.set()
        return JSONResponse({"interrupted": self._over}, 202)

    async def draw(self, request: Request) -> Response:
        """Draw: 200 with the PNG; 409 interrupted; 413 body too large; 422 invalid order; else the status of
        `explain`."""
        picture, stop = request.path_params["picture"], Event()
        if picture <= self._over:
            stop.set()
        self._stops[picture] = stop
        try:
            order = DrawRequestBody.model_validate_json(await _body(request))
            return await self._drawn(order, stop, request)
        except TooLarge:
            return _problem(413, f"At most {MAX_BODY_BYTES:,} bytes are taken.")
        except ValidationError as wrong:
            first = wrong.errors(include_input=False)[0]
            return _problem(422, f"{'.'.join(map(str, first['loc'])) or 'the body'}: {first['msg']}")
        finally:
            self._stops.pop(picture, None)

    async def _drawn(self, order: DrawRequestBody, stop: Event, request: Request) -> Response:
        work = asyncio.get_running_loop().run_in_executor(self._hand, self._draw, order, stop)
        left = asyncio.create_task(_until_left(request))
        try:
            ends: set[asyncio.Future[Any]] = {work, left}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():  # the client has disconnected
                stop.set()
            return Response(await work, media_type="image/png")
        except Exception as failure:
            return _problem(*self._explain(failure, order))
        finally:
            left.cancel()


async def _body(request: Request) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise TooLarge
        parts.append(part)
    return b"".join(parts)


async def _until_left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _problem(status: int, detail: str) -> Response:
    return JSONResponse({"detail": detail}, status)


@contextlib.asynccontextmanager
async def _deaf(_app: Starlette) -> AsyncIterator[None]:
    """Ignore SIGTERM and SIGINT: uvicorn would exit, and BentoML's supervisor sends them to its grandchildren too
    early."""
    for polite in (signal.SIGTERM, signal.SIGINT):
        signal.signal(polite, signal.SIG_IGN)
    yield

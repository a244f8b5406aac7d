"""Handles unexpected exceptions: one 500 response, one stack trace in the log."""

from __future__ import annotations

import logging

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from imagegen.http.problems import problem
from imagegen.telemetry.logs import without_ids

log = logging.getLogger("imagegen.http")


class InternalErrors:
    """ASGI middleware that answers an unexpected exception with 500 `internal` and does not re-raise it.

    Starlette's own handler of `Exception` re-raises after the response, so BentoML and uvicorn each log the exception
    again. If the response has started, it stays incomplete and uvicorn closes the connection.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def sending(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception as error:
            if isinstance(error, ClientDisconnect) or isinstance(error.__cause__, ClientDisconnect):
                return  # the client disconnected: not an error, and no response is possible
            place = without_ids(scope["path"])[:200]
            log.error("internal error while answering %s %r", scope["method"], place, exc_info=error)
            if not started:
                answer = problem(500, "internal", "Internal error while answering this request. See the service log.")
                await answer(scope, receive, send)

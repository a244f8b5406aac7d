"""The answer to an exception that no handler expects: one 500, one stack trace in the log."""

from __future__ import annotations

import logging

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from imagegen.http.problems import problem
from imagegen.telemetry.logs import without_ids

log = logging.getLogger("imagegen.http")


class InternalErrors:
    """ASGI middleware that answers an unexpected exception with 500 `internal` and does not raise it again.

    Starlette's own handler of `Exception` raises it again after the answer, so BentoML and uvicorn log it once more
    each. If the answer has begun, it ends unfinished and uvicorn closes the connection.
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
                return  # nobody reads an answer, and nothing has failed
            place = without_ids(scope["path"])[:200]
            log.error("internal error while answering %s %r", scope["method"], place, exc_info=error)
            if not started:
                answer = problem(500, "internal", "Internal error while answering this request. See the service log.")
                await answer(scope, receive, send)

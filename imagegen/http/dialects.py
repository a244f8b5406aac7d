"""Translates problem documents into the error format of other services' APIs, by path."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from imagegen.http.openai.errors import openai_error, openai_status
from imagegen.http.sdapi.errors import sdapi_error

PROBLEM = "application/problem+json"


@dataclass(frozen=True)
class Dialect:
    """An API's paths, and how it represents a problem document: body and status."""

    addresses: re.Pattern[str]
    body: Callable[[dict[str, Any]], Any]
    status: Callable[[dict[str, Any]], int]


DIALECTS = (
    # a client's base URL may end in a slash: `//v1/models` also gets OpenAI's error format
    Dialect(re.compile(r"/+v1(?:/|$)"), openai_error, openai_status),
    Dialect(re.compile(r"/+sdapi(?:/|$)"), sdapi_error, lambda problem: int(problem["status"])),
)


class DialectErrors:
    """Translates every problem under DIALECTS, whichever layer raised it (body limit, authentication, router)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"] if scope["type"] == "http" else ""
        dialect = next((one for one in DIALECTS if one.addresses.match(path)), None)
        if dialect is None:
            await self._app(scope, receive, send)
            return
        start: Message | None = None
        body = b""

        async def sending(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                if MutableHeaders(scope=message).get("content-type", "").startswith(PROBLEM):
                    start = message
                    return
            elif start is not None:
                body += message.get("body", b"")
                if not message.get("more_body", False):
                    await _translated(dialect, start, body)(scope, receive, send)
                return
            await send(message)

        await self._app(scope, receive, sending)


def _translated(dialect: Dialect, start: Message, body: bytes) -> JSONResponse:
    problem = json.loads(body)
    answer = JSONResponse(dialect.body(problem), dialect.status(problem))
    if "job_id" in problem:  # the job itself failed, so a retry would fail too
        answer.headers["x-should-retry"] = "false"
    for name, value in MutableHeaders(scope=start).items():
        if name not in {"content-type", "content-length"}:
            answer.headers[name] = value
    return answer

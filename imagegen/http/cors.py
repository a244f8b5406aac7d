"""Cross-origin requests of the origins that the operator named: preflights, and the headers that let a page read.

Answers never carry Access-Control-Allow-Credentials: a browser then sends no cookie and shows no answer to one.
"""

from __future__ import annotations

import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from imagegen.security.origins import Origins

METHODS = "GET, HEAD, POST, PUT, DELETE"
EXPOSED = "ETag, Imagegen-Instance, Location, Retry-After, X-Should-Retry"
HEADER_NAMES = re.compile(r"[A-Za-z0-9-]{1,64}(?:\s*,\s*[A-Za-z0-9-]{1,64}){0,63}")
PREFLIGHT_AGE_S = 600


def origin_of(headers: Headers) -> str | None:
    """The Origin header; None without one, and for two of them."""
    given = headers.getlist("origin")
    return given[0] if len(given) == 1 else None


class Cors:
    """Answers preflights of named origins, and marks what they may read. Others pass as if this were not here."""

    def __init__(self, app: ASGIApp, origins: Origins) -> None:
        self._app, self._origins = app, origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._origins:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = origin_of(headers)
        allowed = origin if self._origins.allows(origin) else None
        if allowed and scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            await _preflight(headers)(scope, receive, _marked(send, allowed))
            return
        await self._app(scope, receive, _marked(send, allowed))


def _preflight(headers: Headers) -> Response:
    """What may be sent is told without a token: a preflight never carries one. The request itself is then judged."""
    answer = Response(status_code=204)
    answer.headers["access-control-allow-methods"] = METHODS
    answer.headers["access-control-max-age"] = str(PREFLIGHT_AGE_S)
    wanted = headers.get("access-control-request-headers", "")
    if HEADER_NAMES.fullmatch(wanted.strip()):
        answer.headers["access-control-allow-headers"] = wanted.strip()
    if headers.get("access-control-request-private-network") == "true":  # Chrome asks before it calls loopback
        answer.headers["access-control-allow-private-network"] = "true"
    return answer


def _marked(send: Send, allowed: str | None) -> Send:
    """Every answer varies by the origin: a cache must not give one page's answer to another."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.add_vary_header("Origin")
            if allowed is not None:
                headers["access-control-allow-origin"] = allowed
                headers["access-control-expose-headers"] = EXPOSED
        await send(message)

    return sending

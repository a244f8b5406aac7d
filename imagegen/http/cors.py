"""CORS for the origins that the operator configured: preflights and response headers.

Responses never carry Access-Control-Allow-Credentials, so browsers do not expose responses to requests with cookies.
"""

from __future__ import annotations

import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from imagegen.security.origins import Origins

METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
EXPOSED = "ETag, Imagegen-Instance, Location, Retry-After, X-Should-Retry"
HEADER_NAMES = re.compile(r"[A-Za-z0-9-]{1,64}(?:\s*,\s*[A-Za-z0-9-]{1,64}){0,63}")
PREFLIGHT_AGE_S = 600


def origin_of(headers: Headers) -> str | None:
    """The Origin header; None if it is missing or repeated."""
    given = headers.getlist("origin")
    return given[0] if len(given) == 1 else None


class Cors:
    """Answers preflights of configured origins and adds CORS headers. Passes requests of other origins through."""

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
    """Allow methods and headers without a token, which a preflight never carries. The actual request is checked."""
    answer = Response(status_code=204)
    answer.headers["access-control-allow-methods"] = METHODS
    answer.headers["access-control-max-age"] = str(PREFLIGHT_AGE_S)
    wanted = headers.get("access-control-request-headers", "")
    if HEADER_NAMES.fullmatch(wanted.strip()):
        answer.headers["access-control-allow-headers"] = wanted.strip()
    if headers.get("access-control-request-private-network") == "true":  # Chrome's preflight for loopback
        answer.headers["access-control-allow-private-network"] = "true"
    return answer


def _marked(send: Send, allowed: str | None) -> Send:
    """Add `Vary: Origin` to every response, so that a cache does not serve one origin's response to another."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.add_vary_header("Origin")
            if allowed is not None:
                headers["access-control-allow-origin"] = allowed
                headers["access-control-expose-headers"] = EXPOSED
        await send(message)

    return sending

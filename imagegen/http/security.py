"""The lock on the door, as ASGI middleware in front of everything, BentoML's own routes included."""

from __future__ import annotations

import ipaddress

from starlette.types import ASGIApp, Receive, Scope, Send

from imagegen.http.problems import problem


class LoopbackOnly:
    """Without tokens, answers only requests that arrived on a loopback address of this machine.

    Judged by each request's own socket, so that it holds however the service was started (BentoML's own
    default binds every address).
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"} or is_loopback(scope):
            await self._app(scope, receive, send)
            return
        detail = (
            "This service has no token, so it answers this machine only. Set IMAGEGEN_TOKENS to open it to others "
            "(or IMAGEGEN_ALLOW_ANONYMOUS=1 to open it to everybody)."
        )
        await problem(403, "lock_required", detail)(scope, receive, send)


def is_loopback(scope: Scope) -> bool:
    """Whether the request came in on a loopback address (or a Unix socket, which has none)."""
    server = scope.get("server")
    if server is None or server[1] is None:
        return server is not None
    try:
        address = ipaddress.ip_address(server[0].split("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)

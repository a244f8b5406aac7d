"""Authentication of the HTTP front: 401 for a call without a token if the service requires one.

RFC 9728: the 401 names a document with this resource and the authorization servers that issue tokens for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from fastmcp import FastMCP
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from mcp_front.client import connected
from mcp_front.settings import Settings

METADATA = "/.well-known/oauth-protected-resource"
MCP_PATH = "/mcp"
NEEDED = "The image service behind this MCP server needs a token: send Authorization: Bearer …"


class Door:
    """ASGI middleware that refuses requests to /mcp without a bearer token if the service requires one.

    The service validates the token. The tool reports its refusal.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app, self._settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward the request, or answer 401."""
        answer = None
        if scope["type"] == "http" and scope["path"].rstrip("/") == MCP_PATH:
            answer = await self._refusal(Request(scope))
        await (answer or self._app)(scope, receive, send)

    async def _refusal(self, request: Request) -> Response | None:
        if bearer_of(request.headers) or request.method == "OPTIONS":
            return None
        async with connected(self._settings) as service:
            if not await service.asks_for_token():
                return None
        where = f"{_base(request, self._settings)}{METADATA}{MCP_PATH}"
        challenge = {"WWW-Authenticate": f'Bearer resource_metadata="{where}"'}
        return JSONResponse({"error": "invalid_token", "error_description": NEEDED}, 401, challenge)


def bearer_of(headers: Mapping[str, str]) -> str | None:
    """The bearer token in a request's headers, whose names are in lower case; None without one."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def add_metadata(mcp: FastMCP, settings: Settings) -> None:
    """Serve the RFC 9728 document at the addresses for /mcp and for the whole host."""

    async def metadata(request: Request) -> Response:
        document = {
            "resource": f"{_base(request, settings)}{MCP_PATH}",
            "resource_name": "imagegen",
            "bearer_methods_supported": ["header"],
        }
        servers = [settings.auth_server] if settings.auth_server else []
        return JSONResponse({**document, **({"authorization_servers": servers} if servers else {})})

    for path in (METADATA, METADATA + MCP_PATH):
        mcp.custom_route(path, methods=["GET"])(metadata)


def _base(request: Request, settings: Settings) -> str:
    """The front's public base URL: from the settings, else from this request."""
    if settings.front_url:
        parts = urlsplit(settings.front_url)
        return f"{parts.scheme}://{parts.netloc}"
    return f"{request.url.scheme}://{request.url.netloc}"

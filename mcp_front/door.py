"""The door of the front over HTTP: a call without a token that the service needs is 401, with where to get one.

RFC 9728: the answer names a document that says what this resource is and which authorization servers give tokens.
"""

from __future__ import annotations

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
    """Refuses requests to /mcp that carry no bearer token, while the service asks for one.

    Whether a token is good is the service's to say: it refuses a bad one, and the tool says so.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app, self._settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with 401."""
        answer = None
        if scope["type"] == "http" and scope["path"].rstrip("/") == MCP_PATH:
            answer = await self._refusal(Request(scope))
        await (answer or self._app)(scope, receive, send)

    async def _refusal(self, request: Request) -> Response | None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if (scheme.lower() == "bearer" and token.strip()) or request.method == "OPTIONS":
            return None
        async with connected(self._settings, lambda: None) as service:
            if not await service.asks_for_token():
                return None
        where = f"{_base(request, self._settings)}{METADATA}{MCP_PATH}"
        challenge = {"WWW-Authenticate": f'Bearer resource_metadata="{where}"'}
        return JSONResponse({"error": "invalid_token", "error_description": NEEDED}, 401, challenge)


def add_metadata(mcp: FastMCP, settings: Settings) -> None:
    """The document of RFC 9728, at the address for /mcp and at the one for the whole host."""

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
    """The front's own address, as its clients call it: the setting's, else that of this request."""
    if settings.front_url:
        parts = urlsplit(settings.front_url)
        return f"{parts.scheme}://{parts.netloc}"
    return f"{request.url.scheme}://{request.url.netloc}"

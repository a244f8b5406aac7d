"""The service's public address, from the setting or from a trusted proxy's headers."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from imagegen.http.problems import problem
from imagegen.security.proxies import Proxies, PublicAddress, public_address

SCOPE_KEY = "imagegen.public"
FORWARDED = ("x-forwarded-proto", "x-forwarded-host", "x-forwarded-prefix")


class PublicAddresses:
    """Stores the public address in the scope if it differs from the request's own.

    IMAGEGEN_PUBLIC_URL takes precedence over headers. X-Forwarded-Proto, -Host and -Prefix are read only from trusted
    proxies. Of several values the last one counts, because the proxy itself added it.
    """

    def __init__(self, app: ASGIApp, public: PublicAddress | None, proxies: Proxies) -> None:
        self._app, self._public, self._proxies = app, public, proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                address = self._public or self._forwarded(scope)
            except ValueError as wrong:
                detail = f"The proxy's X-Forwarded headers cannot be used: {wrong}. Correct them in the proxy."
                await problem(400, "invalid_request", detail)(scope, receive, send)
                return
            if address is not None:
                scope[SCOPE_KEY] = address
        await self._app(scope, receive, send)

    def _forwarded(self, scope: Scope) -> PublicAddress | None:
        """The address from X-Forwarded headers. Raises ValueError."""
        headers = Headers(scope=scope)
        given = [_last(headers, name) for name in FORWARDED]
        client = scope.get("client")
        if not any(given) or not self._proxies.trusts(client[0] if client else None):
            return None
        scheme, host, prefix = given
        return public_address(scheme or scope["scheme"], host or headers.get("host", ""), prefix)


def _last(headers: Headers, name: str) -> str:
    return ",".join(headers.getlist(name)).rpartition(",")[2].strip()


def public_of(scope: Scope) -> PublicAddress | None:
    """The public address, if it differs from the request's own."""
    address: PublicAddress | None = scope.get(SCOPE_KEY)
    return address

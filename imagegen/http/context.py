"""What a route may know of its request: the backend, the public address, and who asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from starlette.requests import Request

from imagegen.app import App
from imagegen.http.public import public_of

if TYPE_CHECKING:
    from imagegen.http.routes.session import Session


def app_of(request: Request) -> App:
    return cast(App, request.app.state.app)


def base_url(request: Request) -> str:
    """The address the caller used, without a trailing slash: so that links work where the caller is.

    Behind a reverse proxy it is the public one (`imagegen.http.public`).
    """
    address = public_of(request.scope)
    return address.url if address else str(request.base_url).rstrip("/")


def own_urls(request: Request) -> tuple[str, ...]:
    """Addresses under which this request may name pictures of the service: the public one, and the one it called."""
    return tuple(dict.fromkeys([base_url(request), str(request.base_url).rstrip("/")]))


def prefix(request: Request) -> str:
    """The path under which the caller reaches the service: empty, or `/…`."""
    address = public_of(request.scope)
    return address.prefix if address else ""


def is_https(request: Request) -> bool:
    """Whether the caller's own connection is encrypted."""
    address = public_of(request.scope)
    return (address.scheme if address else request.url.scheme) == "https"


def owner_of(request: Request) -> str | None:
    """The name of the token that let the request in; None without tokens."""
    return cast("str | None", request.scope.get("imagegen.owner"))


def session_of(request: Request) -> Session | None:
    """The session whose cookie let the request in; None if its own token did, and without tokens."""
    return cast("Session | None", request.scope.get("imagegen.session"))

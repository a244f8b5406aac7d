"""Request context for routes: the app and its usable models, the public address, and the caller."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from starlette.requests import Request

from imagegen.app import App
from imagegen.http.public import public_of
from imagegen.models.packages import usable

if TYPE_CHECKING:
    from imagegen.http.routes.session import Session


def app_of(request: Request) -> App:
    return cast(App, request.app.state.app)


def usable_names(app: App) -> list[str]:
    """The names of the models that can draw now: their files and Python packages are installed."""
    return [name for name in app.catalog.names() if usable(app.catalog.get(name), app.settings)]


def base_url(request: Request) -> str:
    """The base URL for links in responses, without a trailing slash: the address that the caller used.

    Behind a reverse proxy it is the public address (`imagegen.http.public`).
    """
    address = public_of(request.scope)
    return address.url if address else str(request.base_url).rstrip("/")


def own_urls(request: Request) -> tuple[str, ...]:
    """Base URLs that count as this service in picture URLs: the public one and the one that the request used."""
    return tuple(dict.fromkeys([base_url(request), str(request.base_url).rstrip("/")]))


def prefix(request: Request) -> str:
    """The path prefix under which the caller reaches the service: empty, or `/…`."""
    address = public_of(request.scope)
    return address.prefix if address else ""


def is_https(request: Request) -> bool:
    """Whether the caller's own connection is encrypted."""
    address = public_of(request.scope)
    return (address.scheme if address else request.url.scheme) == "https"


def owner_of(request: Request) -> str | None:
    """The name of the token that authenticated the request; None without tokens."""
    return cast("str | None", request.scope.get("imagegen.owner"))


def session_of(request: Request) -> Session | None:
    """The session whose cookie authenticated the request; None if a token header did, or without tokens."""
    return cast("Session | None", request.scope.get("imagegen.session"))

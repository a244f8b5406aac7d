"""What a route may know of its request: the backend, the public address, and who asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from starlette.requests import Request

from imagegen.app import App

if TYPE_CHECKING:
    from imagegen.http.routes.session import Session


def app_of(request: Request) -> App:
    return cast(App, request.app.state.app)


def base_url(request: Request) -> str:
    """The address the caller used, without a trailing slash: so that links work where the caller is."""
    return str(request.base_url).rstrip("/")


def owner_of(request: Request) -> str | None:
    """The name of the token that let the request in; None without tokens."""
    return cast("str | None", request.scope.get("imagegen.owner"))


def session_of(request: Request) -> Session | None:
    """The session whose cookie let the request in; None if its own token did, and without tokens."""
    return cast("Session | None", request.scope.get("imagegen.session"))

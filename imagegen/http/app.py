"""The Starlette app that BentoML mounts at `/`."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send

from imagegen.backend import Backend
from imagegen.http import events, images, jobs, session, status
from imagegen.http.problems import HANDLERS, problem
from imagegen.http.session import Sessions


def make_app(sessions: Sessions) -> Starlette:
    """All routes; `attach` gives it the backend once that runs."""
    routes = [*jobs.ROUTES, *events.ROUTES, *images.ROUTES, *status.ROUTES, *session.ROUTES, Mount("/", app=nothing)]
    app = Starlette(routes=routes, exception_handlers=HANDLERS)
    app.state.backend, app.state.sessions = None, sessions
    return app


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """Whatever no route knows: without this BentoML would answer, and not as problem+json."""
    if scope["type"] == "http":
        detail = f"There is nothing at {scope['path'][:200]}. The routes are in docs/http.md."
        await problem(404, "not_found", detail)(scope, receive, send)


def attach(app: Starlette, backend: Backend) -> None:
    app.state.backend = backend

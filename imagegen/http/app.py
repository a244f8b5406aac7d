"""The Starlette app that BentoML mounts at `/`."""

from __future__ import annotations

from starlette.applications import Starlette
<<<<<<< Updated upstream
from starlette.routing import Match, Mount, Route
from starlette.types import Receive, Scope, Send

from imagegen.backend import Backend
from imagegen.http import events, images, jobs, page, session, status
=======
from starlette.exceptions import HTTPException
from starlette.routing import Match, Mount
from starlette.types import Receive, Scope, Send

from imagegen.backend import Backend
from imagegen.http import events, images, jobs, openai, session, status
>>>>>>> Stashed changes
from imagegen.http.problems import HANDLERS, problem
from imagegen.http.session import Sessions
from imagegen.metrics import Metrics


def make_app(sessions: Sessions, counted: Metrics) -> Starlette:
    """All routes; `attach` gives it the backend once that runs."""
<<<<<<< Updated upstream
    known = [*jobs.ROUTES, *events.ROUTES, *images.ROUTES, *status.ROUTES, *session.ROUTES, *page.ROUTES]
    routes = [*known, Mount("/", app=nothing)]
=======
    routes = [
        *jobs.ROUTES,
        *events.ROUTES,
        *images.ROUTES,
        *status.ROUTES,
        *session.ROUTES,
        *openai.ROUTES,
        Mount("/", app=nothing),
    ]
>>>>>>> Stashed changes
    app = Starlette(routes=routes, exception_handlers=HANDLERS)
    app.state.backend, app.state.sessions, app.state.metrics = None, sessions, counted
    return app


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
<<<<<<< Updated upstream
    """Whatever no route takes: without this BentoML would answer, and not as problem+json.

    It is a match for every request, so Starlette's own 405 is never reached; and that would name only the methods
    of the first route of a path.
    """
    if scope["type"] != "http":
        return
    path = scope["path"][:200]
    routes = [one for one in scope["app"].routes if isinstance(one, Route)]
    allowed = {method for one in routes if one.matches(scope)[0] is Match.PARTIAL for method in one.methods or ()}
    if allowed:
        methods = ", ".join(sorted(allowed))
        detail = f"{scope['method'][:20]} is not possible at {path}; these methods are: {methods}."
        answer = problem(405, "method_not_allowed", detail)
        answer.headers["allow"] = methods
    else:
        answer = problem(404, "not_found", f"There is nothing at {path}. The routes are in docs/http.md.")
    await answer(scope, receive, send)
=======
    """Whatever no route takes: without this BentoML would answer, and not as problem+json."""
    if scope["type"] != "http":
        return
    known = [route for route in scope["app"].routes if route.matches(scope)[0] is Match.PARTIAL]
    if known:
        methods = {method for route in known for method in route.methods}
        raise HTTPException(405, headers={"Allow": ", ".join(sorted(methods))})
    detail = f"There is nothing at {scope['path'][:200]}. The routes are in docs/http.md."
    await problem(404, "not_found", detail)(scope, receive, send)
>>>>>>> Stashed changes


def attach(app: Starlette, backend: Backend) -> None:
    app.state.backend = backend

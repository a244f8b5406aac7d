"""The Starlette app that BentoML mounts at `/`."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.routing import Match, Mount, Route
from starlette.types import Receive, Scope, Send

from imagegen.app import App
from imagegen.http import openapi
from imagegen.http.body import OneValueEach
from imagegen.http.internal_errors import InternalErrors
from imagegen.http.openai import routes as openai
from imagegen.http.problems import HANDLERS, problem
from imagegen.http.routes import (
    archive,
    events,
    gallery,
    images,
    inspection,
    jobs,
    keeping,
    loras,
    metrics,
    model_files,
    page,
    previews,
    provenance,
    session,
    status,
    tasks,
)
from imagegen.http.routes.session import Sessions
from imagegen.http.sdapi import extras, lists
from imagegen.http.sdapi import routes as sdapi
from imagegen.http.sdapi.callers import Callers
from imagegen.http.sdapi.switch import SdapiSwitch
from imagegen.http.snapshots import Snapshots
from imagegen.security.rate_limit import RateLimit
from imagegen.telemetry.metrics import Metrics

WARMS_PER_S = 0.5
"""Warm-ups that each caller may request per second on average; bursts of five. A page sends one every 30 s while the
user types."""

FAMILIES = (
    *(
        jobs,
        previews,
        events,
        images,
        archive,
        gallery,
        keeping,
        inspection,
        provenance,
        status,
        model_files,
        loras,
        session,
    ),
    *(openai, sdapi, extras, lists, tasks, openapi, metrics, page),
)
ROUTES: list[Route] = [route for family in FAMILIES for route in family.ROUTES]
"""Every route of the service, in the order of docs/http.md."""


def make_app(sessions: Sessions, counted: Metrics) -> Starlette:
    """Build the app with all routes. `attach` connects it to the running service."""
    middleware = [Middleware(InternalErrors), Middleware(OneValueEach), Middleware(SdapiSwitch)]
    routes = [*ROUTES, Rest("/", app=nothing)]
    asgi = Starlette(routes=routes, exception_handlers=HANDLERS, middleware=middleware)
    asgi.state.app, asgi.state.sessions, asgi.state.metrics = None, sessions, counted
    asgi.state.warm_rate, asgi.state.sdapi = RateLimit(WARMS_PER_S), Callers()
    return asgi


class Rest(Mount):
    """Matches every path except `/docs.json`, which BentoML serves after this app."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return (Match.NONE, {}) if scope["path"] == "/docs.json" else super().matches(scope)


PROBED = ("/v1/", "/sdapi/")
"""Path prefixes of other services' APIs. Their clients send OPTIONS to test whether a route exists (SillyTavern)."""


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer requests that match no route with 404 or 405 as problem+json; otherwise BentoML would answer.

    OPTIONS on a route of PROBED returns 204. This app matches every request, so Starlette's own 405 is never
    reached. Starlette's 405 would list only the methods of the first route of a path.
    """
    if scope["type"] != "http":
        return
    path = scope["path"][:200]
    routes = [one for one in scope["app"].routes if isinstance(one, Route)]
    allowed = {method for one in routes if one.matches(scope)[0] is Match.PARTIAL for method in one.methods or ()}
    if allowed:
        methods = ", ".join(sorted(allowed))
        if scope["method"] == "OPTIONS" and path.startswith(PROBED):
            await Response(status_code=204, headers={"allow": f"{methods}, OPTIONS"})(scope, receive, send)
            return
        detail = f"{scope['method'][:20]} is not possible at {path}; these methods are: {methods}."
        answer = problem(405, "method_not_allowed", detail)
        answer.headers["allow"] = methods
    else:
        slashes = " Write one slash where it has two." if "//" in path else ""
        answer = problem(404, "not_found", f"There is nothing at {path}.{slashes} The routes are in docs/http.md.")
    await answer(scope, receive, send)


def attach(asgi: Starlette, app: App) -> None:
    asgi.state.app, asgi.state.snapshots = app, Snapshots(app)

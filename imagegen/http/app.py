"""The Starlette app that BentoML mounts at `/`."""

from __future__ import annotations

from starlette.applications import Starlette

from imagegen.backend import Backend
from imagegen.http import images, jobs, status
from imagegen.http.problems import HANDLERS


def make_app() -> Starlette:
    """All routes; `attach` gives it the backend once that runs."""
    app = Starlette(routes=[*jobs.ROUTES, *images.ROUTES, *status.ROUTES], exception_handlers=HANDLERS)
    app.state.backend = None
    return app


def attach(app: Starlette, backend: Backend) -> None:
    app.state.backend = backend

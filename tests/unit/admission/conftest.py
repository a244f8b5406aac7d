"""A service that accepts and does not draw."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack
from types import SimpleNamespace

import pytest
from sent_pictures import admission
from starlette.applications import Starlette
from starlette.testclient import TestClient
from state_folder import opened

from imagegen.http.problems import HANDLERS
from imagegen.http.routes import images, jobs, tasks
from imagegen.images.conversions import Conversions
from imagegen.images.files import ImageFiles


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """The routes of jobs, pictures and tasks over a real admission and queue, and no worker: what is accepted waits."""
    folder = tmp_path_factory.mktemp("desk")
    app = Starlette(routes=[*jobs.ROUTES, *images.ROUTES, *tasks.ROUTES], exception_handlers=HANDLERS)
    with TestClient(app, raise_server_exceptions=False) as client:
        stack = AsyncExitStack()
        state = client.portal.call(stack.enter_async_context, opened(folder, max_queue=100_000))
        estimator = SimpleNamespace(eta_s=lambda _job: None)
        app.state.app = SimpleNamespace(
            admission=admission(state),
            jobs=state.jobs,
            images=state.images,
            estimator=estimator,
            conversions=Conversions(state.images, ImageFiles(state.folder / "images"), None),
        )
        app.state.pictures = folder / "images"
        yield client
        client.portal.call(stack.aclose)

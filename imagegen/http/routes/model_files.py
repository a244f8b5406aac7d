"""Routes of a model's files: what a download would bring, begin and stop it; what removing frees, and remove."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, StrictBool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from imagegen.http import serialize
from imagegen.http.body import read_json
from imagegen.http.context import app_of
from imagegen.schemas import Refused


class FetchRequest(BaseModel):
    """Begin a download. accept_licence: the caller has read and accepted the licences that restrict use."""

    model_config = ConfigDict(extra="forbid")

    accept_licence: StrictBool = False


async def plan(request: Request) -> Response:
    """What a download of the model's missing files would bring, and the licence to accept. Asks the hub."""
    app, name = app_of(request), request.path_params["name"]
    _check_allowed(request)
    return serialize.answer(serialize.fetch_plan(app.catalog.weights(name), await app.model_manager.plan(name)))


async def fetch(request: Request) -> Response:
    """Begin to download the model's missing files. `GET /api/status` has the progress."""
    app, name = app_of(request), request.path_params["name"]
    wanted = await read_json(request, FetchRequest) if await request.body() else FetchRequest()
    _check_allowed(request)
    found = await app.model_manager.fetch(name, wanted.accept_licence)
    return serialize.answer(serialize.fetch_plan(app.catalog.weights(name), found), 202)


async def stop_fetch(request: Request) -> Response:
    """Stop the model's download. What has come is kept. Without a download it has no effect."""
    app = app_of(request)
    _check_allowed(request)
    app.model_manager.stop_fetch(request.path_params["name"])
    return serialize.answer(await serialize.status(app))


async def files(request: Request) -> Response:
    """The model's files, and which of them a removal deletes."""
    app = app_of(request)
    found = await app.model_manager.held(request.path_params["name"])
    return serialize.answer(serialize.model_files(app.settings, found, found.frees_bytes))


async def remove(request: Request) -> Response:
    """Unload the model if it is idle, and delete its files, except those that other models use."""
    app = app_of(request)
    _check_allowed(request)
    removed, freed_bytes = await app.model_manager.remove(request.path_params["name"])
    return serialize.answer(serialize.model_files(app.settings, removed, freed_bytes))


def _check_allowed(request: Request) -> None:
    if not app_of(request).settings.manage_models:
        detail = "This service's operator fetches and removes models (IMAGEGEN_MANAGE_MODELS is off)."
        raise Refused(403, "managed_by_operator", detail)


ROUTES = [
    Route("/api/models/{name}/fetch", plan, methods=["GET"]),
    Route("/api/models/{name}/fetch", fetch, methods=["POST"]),
    Route("/api/models/{name}/fetch", stop_fetch, methods=["DELETE"]),
    Route("/api/models/{name}/files", files, methods=["GET"]),
    Route("/api/models/{name}/files", remove, methods=["DELETE"]),
]

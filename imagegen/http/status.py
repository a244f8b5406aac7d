"""Routes of the service itself: state, models, policy, and the model's life by hand."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from imagegen import templates
from imagegen.guardrails import policy_view
from imagegen.http.context import backend_of, owner_of
from imagegen.http.problems import unknown_fields
from imagegen.http.views import caps_json, model_json, status_json
from imagegen.schemas import Refused


async def status(request: Request) -> Response:
    return JSONResponse(await status_json(backend_of(request)))


async def models(request: Request) -> Response:
    """The catalog, and the caps that hold for every model."""
    backend = backend_of(request)
    entries = [backend.catalog.get(name) for name in backend.catalog.names()]
    return JSONResponse(
        {"items": [model_json(backend, entry) for entry in entries], "caps": caps_json(backend.settings)}
    )


async def policy(request: Request) -> Response:
    """What is excluded, in the exact words the engine gets, and how they apply to `?model=`."""
    backend = backend_of(request)
    entry = backend.catalog.get(request.query_params.get("model", backend.default_entry.name))
    cfg_scale, takes_negative = float(entry.defaults.cfg_scale.value), entry.capabilities.negative
    return JSONResponse(policy_view(backend.guardrails, entry.name, cfg_scale, takes_negative))


async def prompt_templates(request: Request) -> Response:
    """Presets for a person to fill, read anew each time: an operator edits them while the service runs."""
    found, problems = await asyncio.to_thread(templates.load, backend_of(request).settings)
    return JSONResponse(templates.view(found, problems))


async def warm(request: Request) -> Response:
    """Load the default model (or `?model=`), if nothing else is to do and there is room for it.

    Answers when that has begun or waits for the running job. Asking again while it loads changes nothing; once it is
    there, it is kept a while for whoever types. Each caller may ask every few seconds.
    """
    backend = backend_of(request)
    if unknown := [name for name in request.query_params if name != "model"]:
        raise unknown_fields(unknown)
    if await request.body():
        raise Refused(422, "invalid_request", "This request has no body. Name a model in the address: ?model=NAME.")
    entry = backend.catalog.get(request.query_params.get("model", backend.default_entry.name))
    if (lacking := backend.unobtainable(entry)) is not None:
        raise Refused(422, "model_missing", lacking)
    if wait_s := request.app.state.warm_rate.take(owner_of(request) or ""):
        detail = f"The model was asked for often enough. Ask again in {wait_s} s, or ask for a picture: that waits."
        raise Refused(429, "rate_limited", detail, retry_after_s=wait_s)
    await asyncio.shield(backend.worker.warm(entry.name).done)  # others may wait for the same order
    return JSONResponse(await status_json(backend), 202)


async def unload(request: Request) -> Response:
    """End an idle engine, or a warm-up; answers when its memory is free."""
    backend = backend_of(request)
    await backend.worker.unload()
    return JSONResponse(await status_json(backend), 202)


ROUTES = [
    Route("/api/status", status, methods=["GET"]),
    Route("/api/models", models, methods=["GET"]),
    Route("/api/policy", policy, methods=["GET"]),
    Route("/api/templates", prompt_templates, methods=["GET"]),
    Route("/api/warm", warm, methods=["POST"]),
    Route("/api/unload", unload, methods=["POST"]),
]

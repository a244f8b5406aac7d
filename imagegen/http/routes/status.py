"""Routes of the service itself: state, models, policy, and the model's life by hand."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from imagegen.http.context import app_of, owner_of
from imagegen.http.problems import unknown_fields
from imagegen.http.serialize import caps_json, model_json, status_json
from imagegen.prompts import templates
from imagegen.prompts.guardrails import policy_view
from imagegen.schemas import Refused


async def status(request: Request) -> Response:
    return JSONResponse(await status_json(app_of(request)))


async def models(request: Request) -> Response:
    """The catalog, and the caps that hold for every model."""
    app = app_of(request)
    entries = [app.catalog.get(name) for name in app.catalog.names()]
    return JSONResponse({"items": [model_json(app, entry) for entry in entries], "caps": caps_json(app.settings)})


async def policy(request: Request) -> Response:
    """What is excluded, in the exact words the engine gets, and how they apply to `?model=`."""
    app = app_of(request)
    entry = app.catalog.get(request.query_params.get("model", app.default_entry.name))
    cfg_scale, takes_negative = float(entry.defaults.cfg_scale.value), entry.capabilities.negative
    return JSONResponse(policy_view(app.guardrails, entry.name, cfg_scale, takes_negative))


async def prompt_templates(request: Request) -> Response:
    """Presets for a person to fill, read anew each time: an operator edits them while the service runs."""
    found, problems = await asyncio.to_thread(templates.load, app_of(request).settings)
    return JSONResponse(templates.view(found, problems))


async def warm(request: Request) -> Response:
    """Load the default model (or `?model=`), if nothing else is to do and there is room for it.

    Answers when that has begun or waits for the running job. Asking again while it loads changes nothing; once it is
    there, it is kept a while for whoever types. Each caller may ask every few seconds.
    """
    app = app_of(request)
    if unknown := [name for name in request.query_params if name != "model"]:
        raise unknown_fields(unknown)
    if await request.body():
        raise Refused(422, "invalid_request", "This request has no body. Name a model in the address: ?model=NAME.")
    entry = app.catalog.get(request.query_params.get("model", app.default_entry.name))
    if (lacking := app.model_files.unobtainable(entry)) is not None:
        raise Refused(422, "model_missing", lacking)
    if wait_s := request.app.state.warm_rate.take(owner_of(request) or ""):
        detail = f"The model was asked for often enough. Ask again in {wait_s} s, or ask for a picture: that waits."
        raise Refused(429, "rate_limited", detail, retry_after_s=wait_s)
    await asyncio.shield(app.worker.warm(entry.name).done)  # others may wait for the same order
    return JSONResponse(await status_json(app), 202)


async def unload(request: Request) -> Response:
    """End an idle engine, or a warm-up; answers when its memory is free."""
    app = app_of(request)
    await app.worker.unload()
    return JSONResponse(await status_json(app), 202)


ROUTES = [
    Route("/api/status", status, methods=["GET"]),
    Route("/api/models", models, methods=["GET"]),
    Route("/api/policy", policy, methods=["GET"]),
    Route("/api/templates", prompt_templates, methods=["GET"]),
    Route("/api/warm", warm, methods=["POST"]),
    Route("/api/unload", unload, methods=["POST"]),
]

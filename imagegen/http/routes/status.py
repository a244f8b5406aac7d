"""Service routes: status, models, policy, prompt templates, warm, unload."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from imagegen.admission.sizes import hinted
from imagegen.http import responses, serialize
from imagegen.http.context import app_of, owner_of
from imagegen.http.problems import unknown_fields
from imagegen.models.entry import Entry
from imagegen.prompts import templates
from imagegen.prompts.guardrails import policy_view
from imagegen.prompts.templates import Template
from imagegen.schemas import Refused
from imagegen.settings import Settings


async def status(request: Request) -> Response:
    return serialize.answer(await serialize.status(app_of(request)))


async def models(request: Request) -> Response:
    """The catalog, and the limits that apply to every model."""
    return serialize.answer(serialize.models(app_of(request)))


async def policy(request: Request) -> Response:
    """The operator's exclusions in the exact words sent to the engine, and how they apply to `?model=`."""
    app = app_of(request)
    entry = app.catalog.get(request.query_params.get("model", app.default_entry.name))
    cfg_scale, takes_negative = float(entry.defaults.cfg_scale.value), entry.capabilities.negative
    return serialize.answer(policy_view(app.guardrails, entry.name, cfg_scale, takes_negative))


async def prompt_templates(request: Request) -> Response:
    """Prompt presets, with sizes that the default model or `?model=` can draw.

    Reads the files at each request: operators edit them while the service runs.
    """
    app = app_of(request)
    entry = app.catalog.get(request.query_params.get("model", app.default_entry.name))
    found, problems = await asyncio.to_thread(templates.load, app.settings)
    items = [_hinted(one, entry, app.settings) for one in found]
    return serialize.answer(responses.status.Templates(items=items, problems=[str(problem) for problem in problems]))


def _hinted(template: Template, entry: Entry, settings: Settings) -> Template:
    if template.width is None or template.height is None:
        return template
    width, height = hinted(template.width, template.height, entry, settings.max_dimension)
    return template.model_copy(update={"width": width, "height": height})


async def warm(request: Request) -> Response:
    """Load the default model or `?model=`, if the queue is empty and the model fits in memory.

    Returns when the load has started or waits for the running job. A repeated request has no effect while the model
    loads; afterwards it keeps the model loaded for a while. Rate-limited per caller. Raises Refused 409, 422, 429, 503.
    """
    app = app_of(request)
    if unknown := [name for name in request.query_params if name != "model"]:
        raise unknown_fields(unknown)
    if await request.body():
        raise Refused(422, "invalid_request", "This request has no body. Name a model in the address: ?model=NAME.")
    entry = app.catalog.get(request.query_params.get("model", app.default_entry.name))
    if (older := app.model_files.too_old(entry)) is not None:
        raise Refused(422, "engine_too_old", older)
    if (lacking := app.model_files.unobtainable(entry)) is not None:
        raise Refused(422, "model_missing", lacking)
    if wait_s := request.app.state.warm_rate.take(owner_of(request) or ""):
        detail = f"The model was asked for often enough. Ask again in {wait_s} s, or ask for a picture: that waits."
        raise Refused(429, "rate_limited", detail, retry_after_s=wait_s)
    await asyncio.shield(app.worker.warm(entry.name).done)  # other requests may wait for the same warm-up
    return serialize.answer(await serialize.status(app), 202)


async def unload(request: Request) -> Response:
    """Stop an idle engine or a warm-up. Returns when its memory is free."""
    app = app_of(request)
    await app.worker.unload()
    return serialize.answer(await serialize.status(app), 202)


ROUTES = [
    Route("/api/status", status, methods=["GET"]),
    Route("/api/models", models, methods=["GET"]),
    Route("/api/policy", policy, methods=["GET"]),
    Route("/api/templates", prompt_templates, methods=["GET"]),
    Route("/api/warm", warm, methods=["POST"]),
    Route("/api/unload", unload, methods=["POST"]),
]

"""Routes of OpenAI's images API: generations, edits, and the list of models.

`request` parses the requests; `errors` formats the errors.
"""

from __future__ import annotations

import asyncio
import base64
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from imagegen.app import App
from imagegen.http import hints, serialize
from imagegen.http.context import app_of, base_url, usable_names
from imagegen.http.keep_alive import answered
from imagegen.http.openai.errors import openai_error
from imagegen.http.openai.partial import quality, until_drawn
from imagegen.http.openai.request import ImagesEditRequest, ImagesRequest, read_edit, read_generation, read_variation
from imagegen.http.problems import problem_json
from imagegen.http.snapshots import one_line
from imagegen.http.sse import HEARTBEAT, EventStream, Frames, frame
from imagegen.http.wait import accept, completed, release, until_ended
from imagegen.requests import GenerateRequest
from imagegen.schemas import Job, Refused, StoredImage

EXTENSIONS = {"png": "png", "jpeg": "jpg", "webp": "webp"}
NO_USAGE = {
    "input_tokens": 0,
    "input_tokens_details": {"text_tokens": 0, "image_tokens": 0},
    "output_tokens": 0,
    "total_tokens": 0,
}
"""OpenAI's clients expect `usage`; this service does not meter tokens."""


async def generations(request: Request) -> Response:
    return await _answer(request, await read_generation(request), "image_generation")


async def edits(request: Request) -> Response:
    return await _answer(request, await read_edit(request), "image_edit")


async def variations(request: Request) -> Response:
    return await _answer(request, await read_variation(request), "image_variation")


async def _answer(request: Request, asked: ImagesRequest, event: str) -> Response:
    app = app_of(request)
    wanted, reduce = _taken(app, asked), not app.settings.strict_openai
    job = await accept(request, wanted, asked.warnings, reduce_size=reduce)  # a refusal is a response, not an event
    del wanted  # its pictures are stored
    if asked.stream:
        return EventStream(_events(request, asked, job, event))
    return await answered(request, job, partial(_body, request, asked), openai_error)


async def _body(request: Request, asked: ImagesRequest, job: Job) -> dict[str, Any]:
    first = job.images[0]
    body: dict[str, Any] = {
        "created": int(job.finished_at or 0),
        "data": [await _datum(request, asked, image) for image in job.images],
        "background": "transparent" if any(image.transparent for image in job.images) else "opaque",
        "output_format": asked.format,
        "quality": quality(job),
        "size": f"{first.width}x{first.height}",
        "usage": NO_USAGE,
        "model": job.model,
        "job_id": job.id,
    }
    return body | _warnings(job)


def _taken(app: App, asked: ImagesRequest) -> GenerateRequest:
    """The request for this service, with model aliases, `quality=low` and `strength` resolved. Raises Refused."""
    if asked.model is not None:
        asked.model = app.aliases.model(asked.model)
    entry = app.catalog.get(asked.model or app.default_entry.name)
    if asked.quality == "low" and asked.speed is None:
        no_fast = entry.no_fast
        if no_fast is None:
            asked.speed = "fast"
        else:
            asked.warnings.append(hints.without_effect("quality", asked.quality, f"Low means fast. {no_fast}"))
    if isinstance(asked, ImagesEditRequest) and (unused := hints.unused_strength(asked.strength, entry)) is not None:
        asked.warnings.append(unused)
        asked.strength = None
    wanted = asked.wanted()
    asked.forget_pictures()
    return wanted


async def _datum(request: Request, asked: ImagesRequest, image: StoredImage) -> dict[str, Any]:
    """One picture of the response. Extra fields: its seed, and its id, which an edit accepts."""
    extra = {"id": image.id, "seed": image.seed}
    if asked.response_format == "url":
        own = serialize.image(image, base_url(request)).url
        return {"url": f"{own.removesuffix('.png')}.{EXTENSIONS[asked.format]}"} | extra
    return {"b64_json": await _b64(app_of(request), asked, image)} | extra


async def _b64(app: App, asked: ImagesRequest, image: StoredImage) -> str:
    file = await app.conversions.read(image, asked.format, None, asked.compression)
    return base64.b64encode(file.data).decode()


async def _events(request: Request, asked: ImagesRequest, job: Job, event: str) -> Frames:
    """Yield partial pictures, then one `….completed` event per picture or an `error` event, with heartbeats."""
    app = app_of(request)
    end = asyncio.create_task(until_ended(app, job.id))
    try:
        yield HEARTBEAT
        async for one in until_drawn(app, asked, job, event, end):
            yield one
        job = completed(end.result())
        for image in job.images:
            name = f"{event}.completed"
            data = {
                "type": name,
                "b64_json": await _b64(app, asked, image),
                "created_at": int(job.finished_at or 0),
                "size": f"{image.width}x{image.height}",
                "quality": quality(job),
                "background": "transparent" if image.transparent else "opaque",
                "output_format": asked.format,
                "usage": NO_USAGE,
                "id": image.id,
                "seed": image.seed,
                "job_id": job.id,
            }
            yield frame(name, one_line(data | _warnings(job)))
    except Refused as refused:
        error = openai_error(problem_json(refused.status, refused.code, refused.detail))
        yield frame("error", one_line({"type": "error"} | error))
    finally:
        release(request, job.id, end)


def _warnings(job: Job) -> dict[str, Any]:
    return {"warnings": [one.model_dump() for one in job.warnings]} if job.warnings else {}


async def models(request: Request) -> Response:
    """The models that can draw now, then their aliases."""
    return JSONResponse({"object": "list", "data": list(_offered(app_of(request)).values())})


async def model(request: Request) -> Response:
    app, name = app_of(request), request.path_params["name"]
    offered = _offered(app)
    if name not in offered:
        names = ", ".join(one for one, model in offered.items() if "alias_of" not in model)
        raise Refused(404, "unknown_model", f"There is no model {name[:64]!r} here. Those that can be used: {names}.")
    return JSONResponse(offered[name])


def _offered(app: App) -> dict[str, dict[str, Any]]:
    """OpenAI's model objects by name. `created` is the start of this service, since no other date is known."""
    names = usable_names(app)
    aliases = {alias: name for alias, name in app.aliases.meant.items() if name in names}
    same = {"object": "model", "created": int(app.started_at), "owned_by": "imagegen"}
    offered: dict[str, dict[str, Any]] = {name: {"id": name} | same for name in names}
    return offered | {alias: {"id": alias} | same | {"alias_of": name} for alias, name in aliases.items()}


ROUTES = [
    Route("/v1/images/generations", generations, methods=["POST"]),
    Route("/v1/images/edits", edits, methods=["POST"]),
    Route("/v1/images/variations", variations, methods=["POST"]),
    Route("/v1/models", models, methods=["GET"]),
    Route("/v1/models/{name}", model, methods=["GET"]),
]

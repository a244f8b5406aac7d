"""OpenAI's images API over the same jobs: generations, edits, and the list of models.

What is asked for is read in `openai_request`; errors get their shape in `openai_errors`.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from imagegen.app import App
from imagegen.http import serialize
from imagegen.http.context import app_of, base_url
from imagegen.http.openai.errors import openai_error
from imagegen.http.openai.request import ImagesRequest, read_edit, read_generation
from imagegen.http.problems import problem_json
from imagegen.http.snapshots import one_line
from imagegen.http.sse import HEARTBEAT, HEARTBEAT_S, EventStream, Frames, frame
from imagegen.http.wait import accept, completed, release, until_ended, wait_completed
from imagegen.images import convert
from imagegen.models.entry import Entry
from imagegen.models.packages import lacking
from imagegen.schemas import GenerateRequest, Job, Refused, StoredImage

EXTENSIONS = {"png": "png", "jpeg": "jpg", "webp": "webp"}
NO_USAGE = {
    "input_tokens": 0,
    "input_tokens_details": {"text_tokens": 0, "image_tokens": 0},
    "output_tokens": 0,
    "total_tokens": 0,
}
"""OpenAI's stream events must have a usage; nothing is metered here."""


async def generations(request: Request) -> Response:
    return await _answer(request, await read_generation(request), "image_generation")


async def edits(request: Request) -> Response:
    return await _answer(request, await read_edit(request), "image_edit")


async def _answer(request: Request, asked: ImagesRequest, event: str) -> Response:
    if asked.stream:
        job = await accept(request, _taken(asked))  # a refusal is an answer, not an event
        return EventStream(_events(request, asked, job, event))
    job = await wait_completed(request, _taken(asked))
    first = job.images[0]
    body: dict[str, Any] = {
        "created": int(job.finished_at or 0),
        "data": [await _datum(request, asked, image) for image in job.images],
        "background": "opaque",
        "output_format": asked.format,
        "size": f"{first.width}x{first.height}",
        "model": job.model,
        "job_id": job.id,
    }
    return JSONResponse(body | _warnings(job))


def _taken(asked: ImagesRequest) -> GenerateRequest:
    wanted = asked.wanted()
    asked.forget_pictures()
    return wanted


async def _datum(request: Request, asked: ImagesRequest, image: StoredImage) -> dict[str, Any]:
    """One picture of the answer; its seed and its id, which an edit takes, as extra fields."""
    extra = {"id": image.id, "seed": image.seed}
    if asked.response_format == "url":
        own = serialize.image(image, base_url(request)).url
        return {"url": f"{own.removesuffix('.png')}.{EXTENSIONS[asked.format]}"} | extra
    return {"b64_json": await _b64(app_of(request), asked, image)} | extra


async def _b64(app: App, asked: ImagesRequest, image: StoredImage) -> str:
    png = await app.images.read(image.id)
    data = await asyncio.to_thread(convert.convert, png, asked.format, None, asked.quality)
    return base64.b64encode(data).decode()


async def _events(request: Request, asked: ImagesRequest, job: Job, event: str) -> Frames:
    """One `….completed` event a picture, once the job has ended, or an `error`; silence is broken by comments."""
    app = app_of(request)
    end = asyncio.create_task(until_ended(app, job.id))
    try:
        yield HEARTBEAT
        while not (await asyncio.wait({end}, timeout=HEARTBEAT_S))[0]:
            yield HEARTBEAT
        job = completed(end.result())
        for image in job.images:
            name = f"{event}.completed"
            data = {
                "type": name,
                "b64_json": await _b64(app, asked, image),
                "created_at": int(job.finished_at or 0),
                "size": f"{image.width}x{image.height}",
                "quality": "auto",
                "background": "opaque",
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
    """The models that can draw now."""
    app = app_of(request)
    return JSONResponse({"object": "list", "data": [_model(app, entry) for entry in _usable(app)]})


async def model(request: Request) -> Response:
    app, name = app_of(request), request.path_params["name"]
    for entry in _usable(app):
        if entry.name == name:
            return JSONResponse(_model(app, entry))
    names = ", ".join(entry.name for entry in _usable(app))
    raise Refused(404, "unknown_model", f"There is no model {name[:64]!r} here. Those that can be used: {names}.")


def _usable(app: App) -> Sequence[Entry]:
    entries = [app.catalog.get(name) for name in app.catalog.names()]
    able = [entry for entry in entries if not lacking(entry.adapter)]
    return [entry for entry in able if entry.made_by is not None or not entry.missing(app.settings)]


def _model(app: App, entry: Entry) -> dict[str, Any]:
    """`created`: since when this service offers it, which is all it knows."""
    return {"id": entry.name, "object": "model", "created": int(app.started_at), "owned_by": "imagegen"}


ROUTES = [
    Route("/v1/images/generations", generations, methods=["POST"]),
    Route("/v1/images/edits", edits, methods=["POST"]),
    Route("/v1/models", models, methods=["GET"]),
    Route("/v1/models/{name}", model, methods=["GET"]),
]

"""AUTOMATIC1111's API: draw, progress and interrupt, over the service's jobs."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from imagegen import __version__
from imagegen.app import App
from imagegen.http.body import read_object
from imagegen.http.context import app_of, owner_of
from imagegen.http.keep_alive import answered
from imagegen.http.sdapi.callers import Callers
from imagegen.http.sdapi.errors import sdapi_error
from imagegen.http.sdapi.request import ImageToImage, TextToImage, read, wanted
from imagegen.http.wait import accept
from imagegen.images import infotext
from imagegen.jobs.active import ActiveJob
from imagegen.schemas import Job, Phase, StoredImage


async def txt2img(request: Request) -> Response:
    """Pictures from words."""
    return await _draw(request, TextToImage)


async def img2img(request: Request) -> Response:
    """Pictures from words and a picture."""
    return await _draw(request, ImageToImage)


async def _draw(request: Request, model: type[TextToImage]) -> Response:
    app, callers, owner = app_of(request), callers_of(request), owner_of(request)
    body = await read_object(request, untyped=True)  # Dify sends no Content-Type
    asked, warnings = read(model, body)
    del body  # frees its pictures
    new = wanted(app, asked, callers.chosen(owner), warnings)
    job = await accept(request, new, warnings, reduce_size=True)
    del new  # its pictures are stored
    callers.began(owner, job.id, app)
    return await answered(request, job, partial(_result, app, asked), sdapi_error)


def callers_of(request: Request) -> Callers:
    callers: Callers = request.app.state.sdapi
    return callers


async def _result(app: App, asked: TextToImage, job: Job) -> dict[str, Any]:
    """AUTOMATIC1111's response. `info` is JSON in a string, as its clients expect."""
    images = []
    if asked.send_images is not False:
        images = [base64.b64encode(await app.images.read(image.id)).decode() for image in job.images]
    return {
        "images": images,
        "parameters": asked.model_dump(exclude={"init_images", "mask"}),
        "info": json.dumps(_info(job), ensure_ascii=False),
    }


def _info(job: Job) -> dict[str, Any]:
    p = job.params
    seeds = [image.seed for image in job.images]
    return {
        "prompt": job.prompt,
        "all_prompts": [job.prompt] * len(seeds),
        "negative_prompt": p.negative,
        "all_negative_prompts": [p.negative] * len(seeds),
        "seed": p.seed,
        "all_seeds": seeds,
        "subseed": p.seed,
        "all_subseeds": seeds,
        "subseed_strength": 0,
        "width": p.width,
        "height": p.height,
        "sampler_name": infotext.SAMPLER_LABELS.get(p.sampler, p.sampler),
        "cfg_scale": p.cfg_scale,
        "steps": p.steps,
        "batch_size": len(seeds),
        "restore_faces": False,
        "face_restoration_model": None,
        "sd_model_name": job.model,
        "sd_model_hash": "",
        "sd_vae_name": None,
        "sd_vae_hash": None,
        "seed_resize_from_w": -1,
        "seed_resize_from_h": -1,
        "denoising_strength": p.strength,
        "extra_generation_params": {},
        "index_of_first_image": 0,
        "infotexts": [_infotext(job, image) for image in job.images],
        "styles": [],
        "job_timestamp": _job_timestamp(job.created_at),
        "clip_skip": 1,
        "is_using_inpainting_conditioning": False,
        "version": f"imagegen {__version__}",
        "job_id": job.id,
        "image_ids": [image.id for image in job.images],
        "warnings": [one.model_dump() for one in job.warnings],
    }


def _infotext(job: Job, image: StoredImage) -> str:
    p = job.params
    drawn = infotext.drawn(
        model=job.model,
        seed=p.seed if image.seed is None else image.seed,
        steps=p.steps,
        cfg_scale=p.cfg_scale,
        sampler=p.sampler,
        size=(image.width, image.height),
        version=f"imagegen {__version__}",
    )
    return infotext.write(infotext.with_loras(job.prompt, p.loras), p.negative, drawn)


def _job_timestamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y%m%d%H%M%S")


async def progress(request: Request) -> Response:
    """The progress of the caller's running or next job, with its newest preview."""
    app = app_of(request)
    one, count = callers_of(request).current(owner_of(request), app)
    eta_s = preview = None
    if one is not None:
        job = await app.jobs.get(one.id, renew=False)
        eta_s, preview = app.estimator.eta_s(job), app.jobs.previews.get(one.id)
    if request.query_params.get("skip_current_image", "").lower() in {"true", "1"}:
        preview = None
    image = None if preview is None else base64.b64encode(preview.data).decode()
    return JSONResponse(_progress(one, count, eta_s) | {"current_image": image})


def _progress(one: ActiveJob | None, count: int, eta_s: float | None) -> dict[str, Any]:
    now = one.progress if one else None
    step, steps = (now.step or 0, now.steps or 0) if now else (0, 0)
    share = step / steps if steps else (now.fraction or 0.0) if now and now.phase is Phase.UPSCALING else 0.0
    n = one.params.n if one else 1
    number = now.image - 1 if now else 0
    return {
        "progress": round(min(1.0, (number + share) / n), 4),
        "eta_relative": round(eta_s or 0.0, 1),
        "state": {
            "skipped": False,
            "interrupted": False,
            "stopping_generation": False,
            "job": one.id if one else "",
            "job_count": count,
            "job_timestamp": _job_timestamp(one.since) if one else "0",
            "job_no": number,
            "sampling_step": step,
            "sampling_steps": steps,
        },
        "textinfo": None if one is None else now.phase.value if now else "queued",
        "current_task": one.id if one else None,
    }


async def interrupt(request: Request) -> Response:
    """Cancel the caller's running or next job, if there is one."""
    app = app_of(request)
    one, _ = callers_of(request).current(owner_of(request), app)
    if one is not None:
        await app.jobs.cancel(one.id)
    return JSONResponse({})


async def skip(request: Request) -> Response:
    """The same as interrupt, because a job's pictures cannot be skipped separately."""
    return await interrupt(request)


ROUTES = [
    Route("/sdapi/v1/txt2img", txt2img, methods=["POST"]),
    Route("/sdapi/v1/img2img", img2img, methods=["POST"]),
    Route("/sdapi/v1/progress", progress, methods=["GET"]),
    Route("/sdapi/v1/interrupt", interrupt, methods=["POST"]),
    Route("/sdapi/v1/skip", skip, methods=["POST"]),
]

"""AUTOMATIC1111's API: options, lists of models, samplers and schedulers, PNG info, and memory."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Callable
from typing import Any

import psutil
from pydantic import BaseModel, ConfigDict, StrictStr
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from imagegen.admission.upscaling import installed_upscalers
from imagegen.app import App
from imagegen.hardware import gpu
from imagegen.http import hints
from imagegen.http.body import read_json, read_object
from imagegen.http.context import app_of, owner_of, usable_names
from imagegen.http.encoded_pictures import as_data_url
from imagegen.http.sdapi import fields
from imagegen.http.sdapi.routes import callers_of
from imagegen.images import infotext
from imagegen.images.png import BrokenPng
from imagegen.images.png_texts import texts
from imagegen.models.entry import Entry
from imagegen.models.loras.folder import SUFFIX, LoraFile
from imagegen.schemas import UPSCALER_SCALE, Refused

CHECKPOINT = "sd_model_checkpoint"


def _entry(request: Request) -> Entry:
    """The model of the caller's next request."""
    app = app_of(request)
    return app.catalog.get(callers_of(request).chosen(owner_of(request)) or app.default_entry.name)


async def options(request: Request) -> Response:
    """Return the options that clients read. `sd_model_checkpoint` is the model of the caller's next request."""
    return JSONResponse({
        CHECKPOINT: _entry(request).name,
        "sd_checkpoint_hash": "",
        "sd_vae": "Automatic",
        "CLIP_stop_at_last_layers": 1,
        "samples_format": "png",
        "enable_pnginfo": app_of(request).settings.png_metadata != "off",
    })  # fmt: skip


async def set_options(request: Request) -> Response:
    """Set the model for the caller's next requests. Ignores other options with a warning."""
    app = app_of(request)
    given = await read_object(request, untyped=True)
    named = given.pop(CHECKPOINT, None)
    if isinstance(named, str) and named.strip():
        entry = app.catalog.get(app.aliases.model(fields.model_of(named)))
        callers_of(request).choose(owner_of(request), entry.name)
    elif named is not None:
        raise Refused(422, "invalid_request", f"{CHECKPOINT} must be the name of a model, as GET sd-models lists it.")
    return JSONResponse({"warnings": [one.model_dump() for one in hints.unknown(given)]})


async def sd_models(request: Request) -> Response:
    """The models that can draw now."""
    app = app_of(request)
    return JSONResponse([_model(name) for name in usable_names(app)])


def _model(name: str) -> dict[str, Any]:
    return {"title": name, "model_name": name, "hash": None, "sha256": None, "filename": name, "config": None}


async def loras(request: Request) -> Response:
    """The LoRAs that a prompt may name as `<lora:NAME:STRENGTH>`. None has a path on this machine."""
    found = await asyncio.to_thread(app_of(request).loras.all)
    return JSONResponse([_lora(one) for one in found if one.fault is None])


def _lora(lora: LoraFile) -> dict[str, Any]:
    said = {
        "modelspec.architecture": lora.facts.base_model or lora.facts.family,
        "modelspec.trigger_phrase": ", ".join(lora.facts.trigger_words),
    }
    metadata = {name: text for name, text in said.items() if text}
    return {"name": lora.name, "alias": lora.name, "path": f"{lora.name}{SUFFIX}", "metadata": metadata}


async def samplers(request: Request) -> Response:
    """The samplers that the chosen model supports."""
    names = _entry(request).samplers
    return JSONResponse([
        {"name": infotext.SAMPLER_LABELS.get(name, name), "aliases": [name], "options": {}} for name in names
    ])  # fmt: skip


async def schedulers(_request: Request) -> Response:
    """One entry, because each model defines its own scheduler."""
    automatic = {"name": "automatic", "label": "Automatic", "aliases": None, "default_rho": -1.0}
    return JSONResponse([automatic | {"need_inner_model": False}])


async def upscalers(request: Request) -> Response:
    """Lanczos' filter, and the upscalers that are installed."""
    app = app_of(request)
    return JSONResponse([
        {"name": name, "model_name": None, "model_path": None, "model_url": None, "scale": UPSCALER_SCALE}
        for name in ("Lanczos", *installed_upscalers(app.catalog, app.settings))
    ])  # fmt: skip


def _empty(name: str) -> Callable[[Request], Awaitable[Response]]:
    async def empty(_request: Request) -> Response:
        return JSONResponse([])

    empty.__name__ = name.replace("-", "_")
    empty.__doc__ = f"{name} does not exist here: the list is empty."
    return empty


EMPTY_LISTS = {name: _empty(name) for name in ("latent-upscale-modes", "sd-vae", "sd-modules", "prompt-styles")}
"""Handlers of the lists that are always empty, because the service has no such resources."""


class PictureInfo(BaseModel):
    """A picture of which the settings are asked for, in base64 or as a data URL."""

    model_config = ConfigDict(extra="allow")

    image: StrictStr


async def png_info(request: Request) -> Response:
    """Return the generation settings stored in a PNG; empty if there are none."""
    asked = await read_json(request, PictureInfo, untyped=True)
    found = await asyncio.to_thread(_texts, asked.image)
    written = infotext.read(found.get(infotext.KEYWORD, ""))
    parameters: dict[str, str] = {"Prompt": written.prompt, "Negative prompt": written.negative} | written.fields
    others = {name: text for name, text in found.items() if name != infotext.KEYWORD}
    return JSONResponse({
        "info": found.get(infotext.KEYWORD, ""),
        "items": others,
        "parameters": parameters if infotext.KEYWORD in found else {},
    })  # fmt: skip


def _texts(picture: str) -> dict[str, str]:
    try:
        data = base64.b64decode(as_data_url(picture).partition(",")[2], validate=True)
        return texts(data) if data.startswith(b"\x89PNG") else {}
    except (binascii.Error, ValueError, BrokenPng):  # like AUTOMATIC1111: an unreadable picture has no settings
        return {}


async def memory(request: Request) -> Response:
    """Memory of the machine and of the GPU, in bytes."""
    ram = psutil.virtual_memory()
    return JSONResponse({
        "ram": {"free": ram.available, "used": ram.total - ram.available, "total": ram.total},
        "cuda": await asyncio.to_thread(_cuda, app_of(request)),
    })  # fmt: skip


def _cuda(app: App) -> dict[str, Any]:
    card = gpu.read(app.settings) if app.gpu_seen else None
    if card is None:
        return {"error": "There is no GPU that the engine uses."}
    if card.free_bytes is None:
        return {"error": "The driver does not report how much memory is free."}
    used = card.total_bytes - card.free_bytes
    return {"system": {"free": card.free_bytes, "used": used, "total": card.total_bytes}}


async def cmd_flags(_request: Request) -> Response:
    """The web UI's command-line flags that apply to this service."""
    return JSONResponse({"api": True, "nowebui": True})


ROUTES = [
    Route("/sdapi/v1/options", options, methods=["GET"]),
    Route("/sdapi/v1/options", set_options, methods=["POST"]),
    Route("/sdapi/v1/sd-models", sd_models, methods=["GET"]),
    Route("/sdapi/v1/samplers", samplers, methods=["GET"]),
    Route("/sdapi/v1/upscalers", upscalers, methods=["GET"]),
    Route("/sdapi/v1/schedulers", schedulers, methods=["GET"]),
    Route("/sdapi/v1/loras", loras, methods=["GET"]),
    *(Route(f"/sdapi/v1/{name}", handler, methods=["GET"]) for name, handler in EMPTY_LISTS.items()),
    Route("/sdapi/v1/png-info", png_info, methods=["POST"]),
    Route("/sdapi/v1/memory", memory, methods=["GET"]),
    Route("/sdapi/v1/cmd-flags", cmd_flags, methods=["GET"]),
]

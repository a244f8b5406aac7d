"""How a PNG was made, and what of it this service can draw with."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from imagegen.app import App
from imagegen.http import responses, serialize
from imagegen.http.context import app_of
from imagegen.http.hints import shown
from imagegen.http.multipart import read_upload
from imagegen.http.sdapi import fields, loras
from imagegen.images import inspection
from imagegen.images.png import SIGNATURE, BrokenPng
from imagegen.images.settings_read import SettingsRead
from imagegen.requests import GenerateRequest, LoraWish
from imagegen.schemas import Refused, Warn

MODEL_SUFFIXES = {".safetensors", ".ckpt", ".gguf", ".sft", ".pt", ".pth", ".bin"}
ANY_PROMPT = "a picture"
"""Checks the other settings of a picture whose file has no prompt."""


async def inspect(request: Request) -> Response:
    """Read the settings in a PNG, and return those that this service can use as a request."""
    app = app_of(request)
    data = await read_upload(request)
    if not data.startswith(SIGNATURE):
        raise Refused(422, "bad_image", "This is no PNG file. Only PNG files have settings that can be read.")
    try:
        found = await asyncio.to_thread(inspection.inspect, data)
    except BrokenPng as broken:
        raise Refused(422, "bad_image", str(broken)) from None
    del data
    usable, warnings = await _usable(app, found.settings)
    warnings += [_unused(f"The text {name!r} of the file {why}.") for name, why in found.texts.unread.items()]
    return serialize.answer(
        responses.jobs.Inspection(
            program=found.program,
            width=found.width,
            height=found.height,
            settings=responses.jobs.SettingsRead.model_validate(_written(found.settings)),
            request=usable if found.program else None,
            warnings=warnings,
        )
    )


def _written(read: SettingsRead) -> dict[str, Any]:
    """What the file says, without what it does not say."""
    width, height = read.size or (None, None)
    written = {
        "prompt": read.prompt,
        "negative": read.negative,
        "model": read.model,
        "seed": read.seed,
        "steps": read.steps,
        "cfg_scale": read.cfg_scale,
        "sampler": read.sampler,
        "width": width,
        "height": height,
        "loras": [{"name": name, "strength": strength} for name, strength in read.loras],
        "speed": read.speed,
        "background": read.background,
        "others": read.others,
    }
    return {name: value for name, value in written.items() if value not in (None, "", [], {})}


async def _usable(app: App, read: SettingsRead) -> tuple[dict[str, Any], list[Warn]]:
    """The fields of a request, each of which admission takes, and a warning for each setting that it does not."""
    warnings: list[Warn] = []
    wanted = {name: value for name, value in _fields(app, read, warnings) if value not in (None, "", [])}
    taken: dict[str, Any] = {}
    checkable = await _refusal(app, {"prompt": ANY_PROMPT}) is None
    for name, value in wanted.items():
        if checkable and (why := await _refusal(app, {"prompt": ANY_PROMPT} | taken | {name: value})) is not None:
            warnings.append(_unused(f"{name} is not used. {why}"))
        else:
            taken[name] = value
    return taken, warnings


async def _refusal(app: App, body: dict[str, Any]) -> str | None:
    """Why the service would refuse the request; None if it would not."""
    try:
        await app.admission.check(GenerateRequest.model_validate(body))
    except Refused as refused:
        return refused.detail
    except ValidationError as wrong:
        return f"{wrong.errors()[0]['msg']}."
    return None


def _fields(app: App, read: SettingsRead, warnings: list[Warn]) -> Iterator[tuple[str, Any]]:
    """The settings as fields of a request, the model first, because it decides about the others."""
    model = _model(app, read.model, warnings)
    yield "model", model
    prompt, tagged = read.prompt, list[LoraWish]()
    if len(prompt) <= app.settings.max_prompt_chars:
        try:
            prompt, tagged = loras.taken_out(prompt) if not read.loras else (prompt, [])
        except Refused as refused:
            warnings.append(_unused(refused.detail))
    yield "prompt", prompt
    yield "negative", read.negative
    entry = app.catalog.get(model or app.default_entry.name)
    if read.sampler:
        sampler = fields.sampler_of(read.sampler, entry.samplers)
        if sampler is None:
            own = str(entry.defaults.sampler.value)
            warnings.append(_unused(f"sampler={shown(read.sampler)} is not used: {entry.name} has {own}."))
        yield "sampler", sampler
    width, height = read.size or (None, None)
    numbers = {"width": width, "height": height, "steps": read.steps, "cfg_scale": read.cfg_scale, "seed": read.seed}
    yield from numbers.items()
    yield "loras", _loras(app, read, [(one.name, one.strength) for one in tagged], warnings)
    yield "speed", read.speed
    yield "background", read.background


def _model(app: App, title: str | None, warnings: list[Warn]) -> str | None:
    """The model of this service that the title names; None if there is none."""
    if not title:
        return None
    name = fields.model_of(title)
    path = PurePosixPath(name.replace("\\", "/"))
    stem = path.stem if path.suffix.lower() in MODEL_SUFFIXES else path.name
    found = next((one for one in (name, stem) if one in app.catalog.names()), None)
    if found is None:
        warnings.append(_unused(f"model={shown(title)} is not used: this service has no model of that name."))
    return found


def _loras(app: App, read: SettingsRead, tagged: list[tuple[str, float]], warnings: list[Warn]) -> list[dict[str, Any]]:
    """The LoRAs that are here, by the names of this service."""
    here = {*app.loras.names()}
    found: dict[str, dict[str, Any]] = {}
    for name, strength in read.loras or tagged:
        stem = PurePosixPath(name.replace("\\", "/")).name.removesuffix(".safetensors")
        if stem in here:
            found[stem] = {"name": stem, "strength": strength}
        else:
            warnings.append(_unused(f"The LoRA {name[:64]!r} is not used: this service has none of that name."))
    return list(found.values())


def _unused(detail: str) -> Warn:
    return Warn(code="setting_not_used", detail=detail)


ROUTES = [Route("/api/images/inspect", inspect, methods=["POST"])]

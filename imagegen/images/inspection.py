"""Reads how a picture was made from its PNG file: of this service, AUTOMATIC1111, ComfyUI or InvokeAI. Pure.

Belongs here: what the file says. Not here: which of it this service can draw with (`http/routes/inspect.py`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from imagegen.images import comfyui, infotext
from imagegen.images.png import size_of
from imagegen.images.png_texts import PngTexts, read_texts
from imagegen.images.settings_read import SettingsRead

Program = Literal["imagegen", "automatic1111", "comfyui", "invokeai"]
INVOKEAI = "invokeai_metadata"
MOST_LORAS = 64


@dataclass(frozen=True)
class Inspection:
    """program: which one's format the settings have; None if there are none. width, height: pixels of the file."""

    program: Program | None
    settings: SettingsRead
    width: int
    height: int
    texts: PngTexts


def inspect(png: bytes) -> Inspection:
    """Read a PNG file. Raises BrokenPng."""
    width, height = size_of(png)
    texts = read_texts(png)
    program, settings = _read(texts.found)
    return Inspection(program, settings.printable(), width, height, texts)


def _read(texts: Mapping[str, str]) -> tuple[Program | None, SettingsRead]:
    """The settings of the first format that is there. This service's own says most, then the programs' own texts."""
    if texts.get("Software", "").startswith("imagegen ") and "model" in texts:
        return "imagegen", _of_this_service(texts)
    if (made := _of_invokeai(texts.get(INVOKEAI, ""))) is not None:
        return "invokeai", made
    if infotext.KEYWORD in texts:  # ComfyUI's graph may be beside it, written by a node that says it more shortly
        return "automatic1111", _of_infotext(infotext.read(texts[infotext.KEYWORD]))
    if (made := comfyui.read(texts.get(comfyui.KEYWORD, ""))) is not None:
        return "comfyui", made
    return None, SettingsRead()


def _of_this_service(texts: Mapping[str, str]) -> SettingsRead:
    written = infotext.read(texts.get(infotext.KEYWORD, ""))
    loras = (one.rpartition(":") for one in texts.get("loras", "").split(", ") if ":" in one)
    return SettingsRead(
        prompt=texts.get("prompt", ""),
        negative=written.negative,
        model=texts["model"],
        seed=_whole(texts.get("seed")),
        steps=_whole(texts.get("steps")),
        cfg_scale=_number(texts.get("cfg_scale")),
        sampler=texts.get("sampler") or None,
        size=_size(written.fields.get("Size", "")),
        loras=tuple((name, _number(strength) or 0.0) for name, _, strength in loras),
        speed=texts.get("speed"),
        background=texts.get("background"),
        others={name: texts[name] for name in ("strength", "upscaler", "upscale_factor") if name in texts},
    )


def _of_infotext(written: infotext.Infotext) -> SettingsRead:
    fields = dict(written.fields)
    return SettingsRead(
        prompt=written.prompt,
        negative=written.negative,
        model=fields.pop("Model", None),
        seed=_whole(fields.pop("Seed", None)),
        steps=_whole(fields.pop("Steps", None)),
        cfg_scale=_number(fields.pop("CFG scale", None)),
        sampler=fields.pop("Sampler", None),
        size=_size(fields.pop("Size", "")),
        others=fields,
    )


def _of_invokeai(text: str) -> SettingsRead | None:
    """InvokeAI's core metadata (`invokeai/app/invocations/metadata.py`); None for other text."""
    try:
        made = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(made, dict) or "positive_prompt" not in made:
        return None
    width, height = _whole(made.get("width")), _whole(made.get("height"))
    scheduler = made.get("scheduler")
    others = ("generation_mode", "strength", "clip_skip", "app_version")
    return SettingsRead(
        prompt=_text(made.get("positive_prompt")),
        negative=_text(made.get("negative_prompt")),
        model=_invokeai_model(made.get("model")),
        seed=_whole(made.get("seed")),
        steps=_whole(made.get("steps")),
        cfg_scale=_number(made.get("cfg_scale")),
        sampler=scheduler.removesuffix("_k") if isinstance(scheduler, str) else None,  # _k: Karras' noise levels
        size=None if width is None or height is None else (width, height),
        loras=tuple(_invokeai_loras(made.get("loras"))),
        others={name: str(made[name]) for name in others if isinstance(made.get(name), str | int | float)},
    )


def _invokeai_model(model: Any) -> str | None:
    """The name of a model: `name`, or `model_name` before InvokeAI 4."""
    named = (model.get("name") or model.get("model_name")) if isinstance(model, dict) else None
    return named if isinstance(named, str) else None


def _invokeai_loras(loras: Any) -> list[tuple[str, float]]:
    found = []
    for one in (loras if isinstance(loras, list) else [])[:MOST_LORAS]:
        model = (one.get("model") or one.get("lora")) if isinstance(one, dict) else None
        name = _invokeai_model(model)
        if name is not None:
            found.append((name, _number(one.get("weight")) or 0.0))
    return found


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _whole(value: Any) -> int | None:
    """A whole number of at most 20 digits, written as a number or as a text."""
    if isinstance(value, str):
        digits = value.strip()
        value = int(digits) if len(digits) <= 20 and digits.removeprefix("-").isdecimal() and digits.isascii() else None
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**20 else None


def _number(value: Any) -> float | None:
    try:
        number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _size(text: str) -> tuple[int, int] | None:
    width, height = (_whole(part) for part in (text.split("x") if text.count("x") == 1 else ("", "")))
    return None if width is None or height is None else (width, height)

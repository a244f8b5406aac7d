"""AUTOMATIC1111's notation of LoRAs in a prompt: `<lora:NAME:STRENGTH>`. Only /sdapi reads it. Pure."""

from __future__ import annotations

import math
import re

from imagegen.requests import LoraWish
from imagegen.schemas import Refused

_TAG = re.compile(r"( ?)<lora:([^:<>]*)((?::[^:<>]*)*)>( ?)")


def taken_out(prompt: str) -> tuple[str, list[LoraWish]]:
    """The prompt without its LoRAs, and the LoRAs: of one that is named twice, the sum of the strengths.

    Raises Refused 422 for a strength that is no number, and for two different ones, of the text and of the picture.
    """
    strengths: dict[str, float] = {}
    for _, name, numbers, _ in _TAG.findall(prompt):
        strengths[name] = strengths.get(name, 0.0) + _strength(name, numbers[1:].split(":") if numbers else [])
    wishes = [LoraWish(name=name, strength=strength) for name, strength in strengths.items()]
    return _TAG.sub(lambda tag: tag[1] or tag[4], prompt).strip(), wishes


def _strength(name: str, numbers: list[str]) -> float:
    try:
        values = {float(number) for number in numbers} or {1.0}
    except ValueError:
        values = {math.nan}
    value = values.pop()
    if values or not math.isfinite(value):
        detail = f"The LoRA {name[:64]!r} of the prompt needs one number as its strength, as in <lora:{name[:64]}:0.8>."
        raise Refused(422, "invalid_request", detail, param="prompt")
    return value

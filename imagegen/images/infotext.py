"""A picture's settings in the format of AUTOMATIC1111's web UI: the PNG text `parameters`, which many programs read.

a red circle
Negative prompt: hats
Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512, Model: tiny
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from imagegen.schemas import Lora

KEYWORD = "parameters"
NEGATIVE = "Negative prompt: "
LEAST_FIELDS = 3
"""A last line with fewer fields belongs to the prompt, as in AUTOMATIC1111's parser."""
LONGEST_FIELDS = 16_384
"""A longer last line belongs to the prompt: no program writes so many settings, and to search it would take long."""
_FIELD = re.compile(r'\s{0,8}(\w[\w \-/]{0,63}):\s*("(?:\\.|[^\\"])*"|[^,]*)(?:,|$)')
_HALVES = re.compile("[\ud800-\udfff]")
"""Halves of characters, which JSON may hold and no text can."""

SAMPLER_LABELS = {
    "euler": "Euler",
    "euler_a": "Euler a",
    "heun": "Heun",
    "dpm2": "DPM2",
    "dpm++2s_a": "DPM++ 2S a",
    "dpm++2m": "DPM++ 2M",
    "dpm++2mv2": "DPM++ 2M v2",
    "ipndm": "iPNDM",
    "ipndm_v": "iPNDM v",
    "lcm": "LCM",
    "ddim_trailing": "DDIM",
    "tcd": "TCD",
    "res_multistep": "Res Multistep",
    "res_2s": "Res 2S",
    "er_sde": "ER SDE",
    "default": "Default",
}
"""AUTOMATIC1111's names for the engine's samplers. A sampler that it lacks gets a name in the same style."""


@dataclass(frozen=True)
class Infotext:
    """Parsed settings. `fields`: values by label, in order."""

    prompt: str = ""
    negative: str = ""
    fields: dict[str, str] = field(default_factory=dict)


def write(prompt: str, negative: str, fields: Mapping[str, object]) -> str:
    """Format the text. Omits an empty prompt or negative prompt."""
    lines = [prompt] if prompt else []
    if negative:
        lines.append(f"{NEGATIVE}{negative}")
    lines.append(", ".join(f"{label}: {_quoted(str(value))}" for label, value in fields.items()))
    return "\n".join(lines)


def with_loras(prompt: str, loras: Sequence[Lora]) -> str:
    """The prompt with its LoRAs in AUTOMATIC1111's notation, `<lora:NAME:STRENGTH>`."""
    return " ".join([*([prompt] if prompt else []), *(f"<lora:{one.name}:{one.strength:g}>" for one in loras)])


def drawn(
    *, model: str, seed: int, steps: int, cfg_scale: float, sampler: str, size: tuple[int, int], version: str
) -> dict[str, object]:
    """The fields of a picture that this service drew, by AUTOMATIC1111's labels."""
    return {
        "Steps": steps,
        "Sampler": SAMPLER_LABELS.get(sampler, sampler),
        "CFG scale": f"{cfg_scale:g}",
        "Seed": seed,
        "Size": f"{size[0]}x{size[1]}",
        "Model": model,
        "Version": version,
    }


def read(text: str) -> Infotext:
    """Parse the settings from any program's text in this format."""
    *lines, last = text.strip().split("\n")
    fields = _FIELD.findall(last) if len(last) <= LONGEST_FIELDS else []
    found = {label: _unquoted(value) for label, value in fields}
    if len(found) < LEAST_FIELDS:
        lines, found = [*lines, last], {}
    at = next((number for number, line in enumerate(lines) if line.startswith(NEGATIVE)), len(lines))
    negative = "\n".join(lines[at:]).removeprefix(NEGATIVE)
    return Infotext("\n".join(lines[:at]).strip(), negative.strip(), found)


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if any(mark in value for mark in ',:\n"') else value


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value.strip()
    try:
        return _HALVES.sub("\ufffd", str(json.loads(value)))
    except ValueError:
        return value

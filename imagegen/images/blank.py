"""Is it a picture at all? Tells the pictures that are one single colour, and what in the settings does that.

An engine whose arithmetic has overflowed (NaN) reports success and writes a file. What that file looks like
depends on the decoder: black from the full VAEs (stable-diffusion.cpp issues 968, 1158, 1253), middle grey,
128 in every channel, from the small TAE decoder (seen with a FLUX.2-klein-shaped model at cfg_scale 1e30).
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Literal, cast

from PIL import Image

Kind = Literal["black", "white", "uniform"]

RANGE_MAX = 2
"""A picture whose every channel spans at most this many of 256 levels counts as one colour."""

CFG_USUAL_MAX = 4.0
"""The highest cfg_scale that any model card of the catalog gives (Qwen-Image)."""

BLANK = "The picture does not show what was asked for."

_KNOWN_BLACK = ("qwen", "z-image")  # stable-diffusion.cpp issues 1158 and 1253


@dataclass(frozen=True)
class Finding:
    """A picture of one colour. `colour` is 8-bit RGB.

    detail: the first line says what that means; the lines after it are details: the likely cause and what to try.
    """

    kind: Kind
    colour: tuple[int, int, int]
    detail: str
    code: str = "blank_picture"


def check_blank(png: bytes, model: str, cfg_scale: float) -> Finding | None:
    """Look at a drawn picture; None if it has more than one colour.

    png: a whole PNG file; model: its name in the catalog; cfg_scale: what the picture was drawn with. The
    finding is a warning and no verdict: somebody may have asked for a white page.
    """
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        channels = cast("tuple[tuple[int, int], ...]", image.convert("RGB").getextrema())
    if any(high - low > RANGE_MAX for low, high in channels):
        return None
    red, green, blue = ((low + high) // 2 for low, high in channels)
    kind, name = _kind(channels)
    colour = red, green, blue
    look = f"{name} (#{red:02x}{green:02x}{blue:02x})" if kind == "uniform" else name
    return Finding(kind, colour, f"{BLANK} It is {look}.\n{_cause(kind, model, cfg_scale)}")


def _kind(channels: tuple[tuple[int, int], ...]) -> tuple[Kind, str]:
    if all(high <= RANGE_MAX for _, high in channels):
        return "black", "all black"
    if all(low >= 255 - RANGE_MAX for low, _ in channels):
        return "white", "all white"
    return "uniform", "one single colour"


def _cause(kind: Kind, model: str, cfg_scale: float) -> str:
    """The likeliest cause first: an extreme cfg_scale, then what the model is known for, then the rest."""
    if cfg_scale > CFG_USUAL_MAX:
        return (
            f"cfg_scale {cfg_scale:g} is above {CFG_USUAL_MAX:g}, the highest that the card of any model here"
            " gives, and can make the engine's arithmetic overflow (NaN): draw it again with the default."
        )
    if kind == "black" and model.startswith(_KNOWN_BLACK):
        return (
            f"{model} is known for that with some quantisations and prompts: the engine's arithmetic overflows"
            " (NaN). Try another seed or a shorter prompt; if it stays black, another quantisation."
        )
    return (
        "Unless that was asked for, the engine's arithmetic most likely overflowed (NaN). Try another seed; if"
        " it stays so, check the flow shift in the model's catalog entry, and try it without --diffusion-fa"
        " and without VAE tiling."
    )

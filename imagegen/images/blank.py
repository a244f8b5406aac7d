"""Detects pictures of one colour, or nearly one, and names the likely cause in the settings.

An engine whose arithmetic overflows (NaN) reports success and writes a file. The decoder determines its look.
The full VAEs write black (stable-diffusion.cpp issues 968, 1158, 1253). The small TAE decoder writes middle grey,
128 in every channel (seen with a FLUX.2-klein-shaped model at cfg_scale 1e30). A model asked for far more pixels
than it was trained on draws a faint pattern around one colour (sketch at 1024x1024: grey).

The measure is the range of each channel after a 3 x 3 blur. The range does not depend on the area drawn: a small icon
on a white page covers few pixels and spans most of the range.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Literal, cast

from PIL import Image, ImageFilter

Kind = Literal["black", "white", "uniform"]
Channels = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]

RANGE_MAX = 2
"""A picture is one colour if every channel spans at most this many of 256 levels."""

NEAR_RANGE_MAX = 16
"""The same limit for nearly one colour, after the blur. A faint intended drawing, such as a watermark, spans more."""

_NOISE = ImageFilter.BoxBlur(1)
"""The mean of 3 x 3 pixels: smaller details count as noise."""

CFG_USUAL_MAX = 4.0
"""The highest cfg_scale that any model card of the catalog gives (Qwen-Image)."""

BLANK = "The picture does not show what was asked for."
FAINT = (
    "Unless that was asked for, the model drew nothing but a faint pattern. Try another seed, the model's own size, or"
    " its own number of steps."
)

_KNOWN_BLACK = ("qwen", "z-image")  # stable-diffusion.cpp issues 1158 and 1253


@dataclass(frozen=True)
class Finding:
    """A picture of one colour, or nearly. `colour` is 8-bit RGB.

    detail: the first line says what that means. The lines after it give the likely cause and what to try.
    """

    kind: Kind
    colour: tuple[int, int, int]
    detail: str
    code: str = "blank_picture"


def check_blank(png: bytes, model: str, cfg_scale: float) -> Finding | None:
    """Check whether a drawn picture is blank. Returns None if it is not.

    png: a whole PNG file. model: its name in the catalog. cfg_scale: the value the picture was drawn with.
    The finding is only a warning: the prompt may have asked for a white page.
    """
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        picture = image.convert("RGB")
    channels = _extremes(picture)
    exact = _range(channels) <= RANGE_MAX
    if not exact:
        channels = _extremes(picture.filter(_NOISE))
        if _range(channels) > NEAR_RANGE_MAX:
            return None
    kind, name = _kind(channels) if exact else ("uniform", "nearly one single colour")
    red, green, blue = colour = _middle(channels)
    look = f"{name} (#{red:02x}{green:02x}{blue:02x})" if kind == "uniform" else name
    cause = _cause(kind, model, cfg_scale) if exact or cfg_scale > CFG_USUAL_MAX else FAINT
    return Finding(kind, colour, f"{BLANK} It is {look}.\n{cause}")


def _extremes(picture: Image.Image) -> Channels:
    """The lowest and the highest level of each channel."""
    return cast("Channels", picture.getextrema())


def _range(channels: Channels) -> int:
    """The largest range of any channel."""
    return max(high - low for low, high in channels)


def _middle(channels: Channels) -> tuple[int, int, int]:
    red, green, blue = ((low + high) // 2 for low, high in channels)
    return red, green, blue


def _kind(channels: Channels) -> tuple[Kind, str]:
    if all(high <= RANGE_MAX for _, high in channels):
        return "black", "all black"
    if all(low >= 255 - RANGE_MAX for low, _ in channels):
        return "white", "all white"
    return "uniform", "one single colour"


def _cause(kind: Kind, model: str, cfg_scale: float) -> str:
    """The likeliest cause: an extreme cfg_scale, then a known fault of the model, then any other."""
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

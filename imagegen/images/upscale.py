"""Prepares a stored picture for an upscaler, finishes what it made, and enlarges by interpolation without one.

Every function is synchronous and thread-safe. Transparency is enlarged by interpolation, because networks take RGB.
"""

from __future__ import annotations

import io
import mmap
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image

from imagegen.images import infotext
from imagegen.images.pixels import full_colour, saved
from imagegen.images.png import ENHANCED_SOURCE_TYPE, XMP_KEYWORD, BrokenPng, FinishedPng, finish_png
from imagegen.images.png_texts import texts

SCALE = 4
"""An upscaler's own factor."""
Buffer = bytes | mmap.mmap
CARRIED = ("model", "seed", "steps", "cfg_scale", "sampler", "speed")
"""Texts of the source that stay true of its larger copy."""


@dataclass(frozen=True)
class Source:
    """A decoded picture: RGB pixels in rows, 3 bytes each; the alpha channel, or None."""

    width: int
    height: int
    rgb: bytes
    alpha: Image.Image | None


def decode(png: bytes) -> Source:
    """Decode a stored PNG. Raises BrokenPng."""
    colour = _open(png)
    alpha = colour.getchannel("A") if colour.mode == "RGBA" else None
    return Source(*colour.size, colour.convert("RGB").tobytes(), alpha)


def encode(source: Source, enlarged: Buffer, factor: int) -> bytes:
    """The PNG of a picture that an upscaler made: `enlarged` has its RGB pixels, four times as wide and high.

    For a smaller factor it is reduced by Lanczos' filter.
    """
    size = source.width * SCALE, source.height * SCALE
    image = Image.fromarray(np.frombuffer(enlarged, np.uint8).reshape(size[1], size[0], 3))
    wanted = source.width * factor, source.height * factor
    if wanted != size:
        image = image.resize(wanted, Image.Resampling.LANCZOS)
    if source.alpha is not None:
        image = image.convert("RGBA")
        image.putalpha(source.alpha.resize(wanted, Image.Resampling.LANCZOS))
    return saved(image, "PNG", compress_level=1)


def lanczos(png: bytes, factor: int) -> bytes:
    """Enlarge a stored PNG by Lanczos' filter. Raises BrokenPng."""
    image = _open(png)
    size = image.width * factor, image.height * factor
    return saved(image.resize(size, Image.Resampling.LANCZOS), "PNG", compress_level=1)


def finish(
    png: bytes,
    source: bytes,
    upscaler: str,
    factor: int,
    software: str,
    *,
    prompts: bool,
    drawn: bool,
    marked: bool = True,
) -> FinishedPng:
    """Add the source's generation metadata and what was done. `prompts`: with its prompts.

    drawn: a model drew the source, so the copy is marked as AI-generated like it; else only as enhanced by a program.
    Raises BrokenPng.
    """
    old = texts(source)
    metadata = {name: old[name] for name in [*CARRIED, *(["prompt"] if prompts else [])] if name in old}
    metadata |= {"Software": software, "upscaler": upscaler, "upscale_factor": str(factor)}
    written = infotext.read(old.get(infotext.KEYWORD, ""))
    done = {"Postprocess upscale by": factor, "Postprocess upscaler": upscaler}
    fields: Mapping[str, object] = written.fields | done
    kept = (written.prompt, written.negative) if prompts else ("", "")
    metadata[infotext.KEYWORD] = infotext.write(*kept, fields)
    return finish_png(png, metadata, drawn=drawn, marked=marked)


def is_enhanced(png: bytes) -> bool:
    """Whether a stored PNG is marked as a picture that a program has only enhanced. Raises BrokenPng."""
    return ENHANCED_SOURCE_TYPE in texts(png).get(XMP_KEYWORD, "")


def _open(png: bytes) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(png), formats=["PNG"])
        image.load()
        return full_colour(image)
    except Exception as broken:  # a decoder may raise anything on bad input
        raise BrokenPng(f"The stored picture cannot be decoded ({broken}).") from broken

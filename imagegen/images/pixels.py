"""Shared operations on decoded pictures."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

WHITE = (255, 255, 255)

LONGEST_SIDE_PX = {"webp": 16_383, "jpeg": 65_500}
"""Longest side that a format can hold: WEBP_MAX_DIMENSION of libwebp's encode.h, JPEG_MAX_DIMENSION of libjpeg's
jmorecfg.h (the field itself has room for 65,535). A PNG's side can be 2**31 - 1."""

MAX_SIDE_PX = min(LONGEST_SIDE_PX.values())
"""Longest side of a stored picture: every served format can hold it."""


def split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Split into colour (mode L, RGB or CMYK) and alpha (mode L, None if the picture cannot be transparent)."""
    if image.mode.startswith("I;16"):
        return _split_alpha_16bit(image)
    if image.mode == "RGB" and max(image.info.get("transparency", (0,))) > 255:
        # A PNG of 16 bits a channel: Pillow reduces the pixels to 8 bits, but not the transparent colour
        image.info["transparency"] = tuple(value >> 8 for value in image.info["transparency"])
    grey = image.mode in {"1", "L", "LA"}
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return (image if grey else rgba).convert("L" if grey else "RGB"), rgba.getchannel("A")
    return image if image.mode in {"L", "RGB", "CMYK"} else image.convert("L" if grey else "RGB"), None


def _split_alpha_16bit(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Reduce 16-bit grey to its high bytes, because Pillow's conversion clips everything above 255 to white."""
    values = np.asarray(image)
    transparent = image.info.get("transparency")
    grey = Image.fromarray((values >> 8).astype(np.uint8))
    if transparent is None:
        return grey, None
    return grey, Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8))


def rgb(image: Image.Image) -> Image.Image:
    """RGB without alpha. Returns an RGB picture unchanged."""
    return image if image.mode == "RGB" else image.convert("RGB")


def full_colour(image: Image.Image) -> Image.Image:
    """Convert to RGB, or RGBA if it can be transparent, because a palette picture cannot be resized smoothly."""
    wanted = "RGBA" if image.has_transparency_data else "RGB"
    return image if image.mode == wanted else image.convert(wanted)


def flat_rgb(image: Image.Image) -> Image.Image:
    """Convert to RGB, with transparent parts on white."""
    colour, alpha = split_alpha(image)
    return rgb(colour) if alpha is None else on_white(rgb(colour), alpha)


def on_white(colour: Image.Image, alpha: Image.Image) -> Image.Image:
    """Composite onto a white background, as RGB."""
    white = Image.new("RGB", colour.size, WHITE)
    white.paste(colour, mask=alpha)
    return white


def resized(
    image: Image.Image, size: tuple[int, int], box: tuple[float, float, float, float] | None = None
) -> Image.Image:
    """Resize `box` of the picture, by default all of it, to `size` pixels."""
    if image.size == size and box is None:
        return image
    return image.resize(size, Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)


def rgb_png(image: Image.Image) -> bytes:
    """Encode a PNG at a fast level: at 512x512, half the time of Pillow's default for a tenth more bytes."""
    return saved(image, "PNG", compress_level=1)


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    """Encode the pixels as `format` with `options`, without the `info` of the source file."""
    image.info = {}
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()

"""Converts a stored picture to a requested size and format. Re-exports the other picture operations.

Every function is synchronous and thread-safe. Input and output are whole files as bytes. Callers in the event loop
run these functions in a thread.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Literal

from PIL import Image

from imagegen.images.pixels import LONGEST_SIDE_PX, WHITE, flat_rgb, full_colour, resized, rgb_png, saved
from imagegen.images.png import BrokenPng, FinishedPng, finish_png, size_of, with_text_of
from imagegen.images.references import Reference, decode_reference, parse_data_url

Fit = Literal["contain", "cover", "stretch"]
Format = Literal["png", "jpeg", "webp"]

PREVIEW_SIDE_PX = 512
PREVIEW_BYTES = 100_000

# Size and JPEG quality of a preview, tried in order. The last always fits: 128x128 RGB is 49 kB even raw.
_PREVIEW_TRIES = ((PREVIEW_SIDE_PX, 85), (PREVIEW_SIDE_PX, 70), (PREVIEW_SIDE_PX, 50), (320, 50), (128, 40))


def fit(reference_png: bytes, width: int, height: int, mode: Fit) -> bytes:
    """Fit a stored PNG into an RGB PNG of exactly width x height pixels.

    contain: pad with white. cover: crop to the middle. stretch: distort. contain and cover keep the aspect ratio.
    Raises BrokenPng.
    """
    stored = _open_own(reference_png)
    if stored.size == (width, height) and stored.mode == "RGB":
        return reference_png
    image = flat_rgb(stored)
    if mode == "stretch":
        return rgb_png(resized(image, (width, height)))
    if mode == "cover":
        scale = max(width / image.width, height / image.height)
        across, down = min(image.width, width / scale), min(image.height, height / scale)
        left, top = (image.width - across) / 2, (image.height - down) / 2
        box = left, top, image.width - left, image.height - top
        return rgb_png(resized(image, (width, height), box))
    scale = min(width / image.width, height / image.height)
    inner = _within(image.width * scale, width), _within(image.height * scale, height)
    canvas = Image.new("RGB", (width, height), WHITE)
    canvas.paste(resized(image, inner), ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return rgb_png(canvas)


def convert(source: Path | bytes, format: Format, width: int | None = None, quality: int = 90) -> bytes:
    """Convert a stored PNG to `format`, reduced to `width` pixels. Keeps the aspect ratio and never enlarges.

    PNG without a reduction returns the stored file unchanged. A side too long for `format` is reduced to the
    format's limit: an older version stored such pictures. JPEG gets a white background. quality: 1 to 100, for JPEG
    and WebP. The generation metadata is kept: text in PNG, XMP in JPEG and WebP.
    Raises ValueError for a width under 1, OSError if the file cannot be read, BrokenPng if it is damaged.
    """
    if width is not None and width < 1:
        raise ValueError(f"a width of {width} pixels is no picture")
    png = source if isinstance(source, bytes) else source.read_bytes()
    size = size_of(png)
    if width is not None and width < size[0]:
        size = width, max(1, round(size[1] * width / size[0]))
    elif format == "png":
        return png
    size = _within_format(size, format)
    image = _open_own(png)
    if format == "png":
        return with_text_of(png, saved(resized(full_colour(image), size), "PNG"))
    xmp = image.info.get("xmp", b"")
    if format == "webp":
        return saved(resized(full_colour(image), size), "WEBP", quality=quality, xmp=xmp)
    return saved(resized(flat_rgb(image), size), "JPEG", quality=quality, xmp=xmp)


def preview(source: Path | bytes) -> bytes:
    """Convert a stored PNG to a JPEG of at most 512 pixels a side and 100,000 bytes.

    A noisy picture is saved with less quality, then smaller. The XMP marks it as AI-generated.
    Raises OSError, BrokenPng.
    """
    image = _open_own(source if isinstance(source, bytes) else source.read_bytes())
    xmp = image.info.get("xmp", b"")
    flat = flat_rgb(image)
    jpeg = b""
    for side, quality in _PREVIEW_TRIES:
        scale = min(1.0, side / max(flat.size))
        size = max(1, round(flat.width * scale)), max(1, round(flat.height * scale))
        jpeg = saved(resized(flat, size), "JPEG", quality=quality, xmp=xmp)
        if len(jpeg) <= PREVIEW_BYTES:
            break
    return jpeg


def _open_own(png: bytes) -> Image.Image:
    """Decode a stored PNG. Raises BrokenPng."""
    try:
        image = Image.open(io.BytesIO(png), formats=["PNG"])
        image.load()
    except Exception as broken:  # a decoder may raise anything on bad input
        raise BrokenPng(f"The stored picture cannot be decoded ({broken}).") from broken
    return image


def _within_format(size: tuple[int, int], format: Format) -> tuple[int, int]:
    scale = min(1.0, LONGEST_SIDE_PX.get(format, max(size)) / max(size))
    return max(1, int(size[0] * scale)), max(1, int(size[1] * scale))


def _within(side: float, most: int) -> int:
    return min(most, max(1, round(side)))


__all__ = [
    "PREVIEW_BYTES",
    "PREVIEW_SIDE_PX",
    "BrokenPng",
    "FinishedPng",
    "Fit",
    "Format",
    "Reference",
    "convert",
    "decode_reference",
    "finish_png",
    "fit",
    "parse_data_url",
    "preview",
]

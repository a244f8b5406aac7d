"""Encodes the engine's intermediate pixels as a small JPEG: corrects the colours and enlarges smoothly.

Synchronous; callers in the event loop run it in a thread.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from imagegen.images.convert import Format
from imagegen.images.pixels import saved
from imagegen.images.preview_colours import PreviewColours

SIDE_PX = 512
QUALITY = 80


def shown_size(width: int, height: int) -> tuple[int, int]:
    """The size of a picture's preview: the picture's aspect ratio, at most 512 px a side."""
    scale = min(1.0, SIDE_PX / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def encode_preview(
    rgb: bytes, size: tuple[int, int], picture_size: tuple[int, int], colours: PreviewColours | None = None
) -> bytes:
    """Encode the engine's pixels as a JPEG, enlarged smoothly to the picture's size, at most 512 px a side.

    rgb: 3 bytes a pixel, rows from the top. size: width and height of `rgb`. A projection has one pixel per latent, so
    each side is 8 or 16 times shorter than the picture's. colours: the correction to apply.
    """
    image = Image.frombytes("RGB", size, rgb)
    if colours is not None:
        image = Image.fromarray(colours.corrected(np.asarray(image)))
    target = shown_size(*picture_size)
    if image.size != target:
        image = image.resize(target, Image.Resampling.BICUBIC)
    return saved(image, "JPEG", quality=QUALITY)


def converted(jpeg: bytes, format: Format, quality: int) -> bytes:
    """Convert a preview to the format of its picture. quality: 1 to 100, ignored for PNG."""
    if format == "jpeg":
        return jpeg
    image = Image.open(io.BytesIO(jpeg), formats=["JPEG"])
    return saved(image, "PNG") if format == "png" else saved(image, "WEBP", quality=quality)

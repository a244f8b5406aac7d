"""The picture that is being drawn, made fit to be shown: colours corrected, enlarged smoothly, a small JPEG.

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
    """The size in which a preview of a picture is shown: the picture's own shape, at most 512 px a side."""
    scale = min(1.0, SIDE_PX / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def encode_preview(
    rgb: bytes, size: tuple[int, int], picture_size: tuple[int, int], colours: PreviewColours | None = None
) -> bytes:
    """A JPEG of the engine's pixels, enlarged smoothly to what the picture will be, at most 512 px a side.

    rgb: 3 bytes a pixel, `size` (width, height) of them, rows from the top: of a projection one pixel a latent, so 8 or
    16 times fewer a side than the picture has. colours: a correction of them.
    """
    image = Image.frombytes("RGB", size, rgb)
    if colours is not None:
        image = Image.fromarray(colours.corrected(np.asarray(image)))
    target = shown_size(*picture_size)
    if image.size != target:
        image = image.resize(target, Image.Resampling.BICUBIC)
    return saved(image, "JPEG", quality=QUALITY)


def converted(jpeg: bytes, format: Format, quality: int) -> bytes:
    """A preview in the format of the picture that it is a preview of. quality: 1 to 100, not for PNG."""
    if format == "jpeg":
        return jpeg
    image = Image.open(io.BytesIO(jpeg), formats=["JPEG"])
    return saved(image, "PNG") if format == "png" else saved(image, "WEBP", quality=quality)

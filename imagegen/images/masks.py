"""Masks of edits: white where the picture may change.

A mask may be a file of the request or a stored picture. Both are the same pixels, because a file is decoded as a stored
picture is. Storing an upload lays transparent parts on white, so its file keeps the transparency in a chunk of its own.
Every function is synchronous and thread-safe.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence

from PIL import Image, ImageChops

from imagegen.images.pixels import flat_rgb, rgb_png
from imagegen.images.png import mask_of
from imagegen.images.references import ON_WHITE, Reference, decode_reference
from imagegen.schemas import Warn


def decode_mask(data: bytes, max_px: int, keep_px: int | None = None) -> Reference:
    """Decode an untrusted mask to an upright grey picture in an RGB PNG.

    Parameters, formats, limits and errors are those of `decode_reference`.
    """
    picture = decode_reference(data, max_px, keep_px)
    return stored_mask(picture.png, picture.warnings)


def stored_mask(png: bytes, warnings: Sequence[Warn]) -> Reference:
    """The mask that a stored picture is, as a grey picture in an RGB PNG.

    In a picture that had transparency, transparent parts may change, as in OpenAI's API. Otherwise white parts may.
    warnings: those of the picture. The one for transparency is left out, because the mask keeps it.
    Raises BrokenPng if `png` is damaged.
    """
    levels = mask_of(png)
    picture = Image.open(io.BytesIO(png), formats=["PNG"])
    if levels is not None:
        mask = Image.frombytes("L", picture.size, levels)
    elif picture.mode == "RGBA":  # drawn here, and its background cut out
        mask = ImageChops.invert(picture.getchannel("A"))
    else:
        mask = flat_rgb(picture).convert("L")
    grey = rgb_png(mask.convert("RGB"))
    kept = tuple(one for one in warnings if one != ON_WHITE)
    return Reference(grey, mask.width, mask.height, hashlib.sha256(grey).hexdigest(), kept)

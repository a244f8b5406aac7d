"""Pictures to decode, and what their decoding must give."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from imagegen.images.references import decode_reference
from imagegen.schemas import Refused

MAX_PX = 40_000_000
RED, GREEN, BLUE, YELLOW, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 255, 255)


def quarters(width: int = 32, height: int = 24) -> Image.Image:
    """Red and green over blue and yellow: no turn or mirror image of it is the same."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(GREEN, (width // 2, 0, width, height // 2))
    image.paste(BLUE, (0, height // 2, width // 2, height))
    image.paste(YELLOW, (width // 2, height // 2, width, height))
    return image


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def pixels(png: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(png), formats=["PNG"])
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


def assert_close(png: bytes, expected: Image.Image, tolerance: int) -> None:
    """Equal everywhere, or, for lossy files, where no edge of `quarters` bleeds into its neighbours."""
    difference = np.abs(pixels(png) - np.asarray(expected.convert("RGB")).astype(int))
    assert (difference if tolerance == 0 else difference[3::6, 4::8]).max() <= tolerance


def png_16bit(colour_type: int, samples: np.ndarray, transparent: tuple[int, ...] = ()) -> bytes:
    """A PNG of 16 bits a channel, which Pillow cannot write: samples (height, width, channels)."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width, _ = samples.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    trns = chunk(b"tRNS", struct.pack(f">{len(transparent)}H", *transparent)) if transparent else b""
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    body = chunk(b"IHDR", header) + trns + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def tiff_with_long_tags(count: int) -> bytes:
    """A TIFF in which seven tags share one range of `count` bytes as their values."""
    tags = {256: (4, 1, 8), 257: (4, 1, 8), 258: (3, 1, 8), 262: (3, 1, 1), 273: (4, 1, 8), 279: (4, 1, 64)}
    tags |= dict.fromkeys((266, 277, 284, 317, 320, 332, 338), (1, count, 8))
    entries = b"".join(struct.pack("<HHII", tag, *entry) for tag, entry in sorted(tags.items()))
    return b"II*\0" + struct.pack("<I", 8 + count) + bytes(count) + struct.pack("<H", len(tags)) + entries + bytes(4)


def refused(data: bytes, max_px: int = MAX_PX) -> str:
    with pytest.raises(Refused) as caught:
        decode_reference(data, max_px)
    assert (caught.value.status, caught.value.code) == (422, "bad_image")
    return caught.value.detail


OPAQUE = [
    ("PNG", "RGB", {}, 0),
    ("PNG", "P", {}, 0),
    ("PNG", "L", {}, 0),
    ("PNG", "1", {}, 0),
    ("JPEG", "RGB", {"quality": 95, "subsampling": 0}, 12),
    ("JPEG", "RGB", {"quality": 95, "subsampling": 0, "progressive": True}, 12),
    ("JPEG", "L", {"quality": 95}, 12),
    ("JPEG", "CMYK", {"quality": 95}, 12),
    ("WEBP", "RGB", {"lossless": True}, 0),
    ("WEBP", "RGB", {"quality": 95}, 12),
    ("GIF", "P", {}, 0),
    ("GIF", "L", {}, 0),
    ("BMP", "RGB", {}, 0),
    ("BMP", "P", {}, 0),
    ("BMP", "L", {}, 0),
    ("BMP", "1", {}, 0),
    ("AVIF", "RGB", {"quality": 90, "subsampling": "4:4:4"}, 12),
    ("TIFF", "RGB", {}, 0),
    ("TIFF", "RGB", {"compression": "tiff_lzw"}, 0),
    ("TIFF", "RGB", {"compression": "tiff_adobe_deflate"}, 0),
    ("TIFF", "CMYK", {"compression": "packbits"}, 0),
    ("TIFF", "P", {}, 0),
    ("TIFF", "L", {"compression": "tiff_lzw"}, 0),
    ("TIFF", "1", {}, 0),
    ("TGA", "RGB", {}, 0),
    ("TGA", "RGB", {"compression": "tga_rle"}, 0),
    ("TGA", "P", {}, 0),
    ("TGA", "L", {"compression": "tga_rle"}, 0),
    ("ICO", "RGB", {"sizes": [(32, 24)]}, 0),
    ("ICO", "RGB", {"sizes": [(32, 24)], "bitmap_format": "bmp"}, 0),
]
"""A format, mode, options and tolerance of each kind of file without transparency that is decoded."""

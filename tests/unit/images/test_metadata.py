"""Metadata never decides whether pixels can be read: what is in a file beside them is used, or left out."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from imagegen.images.metadata import readable
from imagegen.images.references import decode_reference
from imagegen.schemas import Refused

MAX_PX = 40_000_000
LONG = zlib.compress(bytes(2 * 1024 * 1024))
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="6"/></x:xmpmeta>'
EXIF_6 = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
"""A TIFF header and one entry: orientation 6, turned by a quarter."""


def picture() -> Image.Image:
    """Wider than high, and different in every corner."""
    return Image.fromarray(np.arange(12 * 8 * 3, dtype=np.uint8).reshape(8, 12, 3))


def saved(format: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture().save(file, format, **options)
    return file.getvalue()


def chunk(kind: bytes, body: bytes, crc: int | None = None) -> bytes:
    checksum = zlib.crc32(kind + body) if crc is None else crc
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)


def png_with(*chunks: bytes, after_pixels: bool = False) -> bytes:
    data = saved("PNG")
    at = data.index(b"IEND") - 4 if after_pixels else data.index(b"IDAT") - 4
    return data[:at] + b"".join(chunks) + data[at:]


def jpeg_with(marker: int, body: bytes) -> bytes:
    data = saved("JPEG", quality=95)
    return data[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body + data[2:]


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(decode_reference(data, MAX_PX).png)))


CHUNKS = {
    "a text that unpacks to 2 MiB": chunk(b"zTXt", b"Comment\0\0" + LONG),
    "an international one": chunk(b"iTXt", b"Comment\0\1\0\0\0" + LONG),
    "an XMP packet that unpacks to 2 MiB": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + LONG),
    "an unknown compression of a text": chunk(b"zTXt", b"Comment\0\7abc"),
    "texts of more than 64 MiB in all": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(1024 * 1024))) * 66,
    "a wrong checksum": chunk(b"tEXt", b"Comment\0hello", crc=1),
    "a wrong checksum of EXIF": chunk(b"eXIf", EXIF_6, crc=1),
    "a wrong checksum of an unknown chunk": chunk(b"abCd", b"hello", crc=1),
    "a gamma cut short": chunk(b"gAMA", b"\0"),
    "a resolution cut short": chunk(b"pHYs", b"\0"),
    "a colour space cut short": chunk(b"sRGB", b""),
    "an animation header cut short": chunk(b"acTL", b"\0"),
}


@pytest.mark.parametrize("after_pixels", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("what", CHUNKS)
def test_a_chunk_beside_the_pixels_of_a_png_does_not_stop_it(what, after_pixels):
    data = png_with(CHUNKS[what], after_pixels=after_pixels)
    assert (decoded(data) == np.asarray(picture())).all()
    assert decode_reference(data, MAX_PX).warnings == ()


@pytest.mark.parametrize(
    "profile",
    [b"name\0\0" + LONG, b"name\0\7abc", b"name\0\0" + b"no zlib", b"name"],
    ids=["2 MiB", "unknown compression", "not packed", "cut short"],
)
def test_a_profile_that_cannot_be_unpacked_is_dropped_with_a_warning(profile):
    data = png_with(chunk(b"iCCP", profile))
    assert (decoded(data) == np.asarray(picture())).all()
    assert [warning.code for warning in decode_reference(data, MAX_PX).warnings] == ["colour_profile_dropped"]


def test_a_file_that_ends_within_its_metadata_is_read():
    whole = png_with(chunk(b"tEXt", b"Comment\0" + bytes(500)), after_pixels=True)
    assert (decoded(whole[:-300]) == np.asarray(picture())).all()


@pytest.mark.parametrize(
    "orienting",
    [
        chunk(b"eXIf", EXIF_6),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP)),
        chunk(
            b"zTXt",
            b"Raw profile type exif\0\0"
            + zlib.compress(b"\nexif\n%8d\n" % (len(EXIF_6) + 6) + (b"Exif\0\0" + EXIF_6).hex().encode() + b"\n"),
        ),
    ],
    ids=["eXIf", "XMP", "packed XMP", "raw profile"],
)
def test_an_orientation_in_metadata_is_applied_beside_a_long_text(orienting):
    data = png_with(orienting, chunk(b"zTXt", b"Comment\0\0" + LONG))
    assert (decoded(data) == np.rot90(np.asarray(picture()), -1)).all()


@pytest.mark.parametrize(
    ("marker", "body"),
    [
        (0xE2, b"ICC_PROFILE\0"),
        (0xE2, b"ICC_PROFILE\0\1"),
        (0xE0, b"JFIF\0"),
        (0xEE, b"Adobe"),
        (0xE2, b"MPF\0II*\0"),
        (0xED, b"Photoshop 3.0\x008BIM\4"),
        (0xFE, b"a comment"),
        (0xE1, b"Exif\0\0II"),
    ],
)
def test_a_segment_beside_the_pixels_of_a_jpeg_does_not_stop_it(marker, body):
    assert (decoded(jpeg_with(marker, body)) == decoded(saved("JPEG", quality=95))).all()


def test_a_webp_with_damaged_metadata_is_read():
    data = saved("WEBP", lossless=True, exif=b"Exif\0\0damaged", xmp=b"\xff<damaged")
    assert (decoded(data) == np.asarray(picture())).all()


@pytest.mark.parametrize("where", [b"IHDR", b"IDAT"])
def test_damaged_pixels_stay_refused(where):
    data = bytearray(png_with(chunk(b"zTXt", b"Comment\0\0" + LONG)))
    at = data.index(where) + 6
    data[at : at + 6] = bytes(6)
    with pytest.raises(Refused, match="damaged"):
        decode_reference(bytes(data), MAX_PX)


def test_a_damaged_transparency_is_refused():
    with pytest.raises(Refused, match="damaged"):
        decode_reference(png_with(chunk(b"tRNS", bytes(6), crc=1)), MAX_PX)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_a_file_without_metadata_is_not_copied(format):
    data = saved(format)
    assert readable(data).data is data

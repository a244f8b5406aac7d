"""Removes metadata that could make a decoder fail, so that bad metadata never prevents reading the pixels.

Pillow refuses a whole PNG for a text chunk that unpacks to more than 1 MiB, and for a bad checksum of a chunk that
browsers skip. These functions copy a file without such parts. They decode nothing and repair no pixels.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from imagegen.images.png import SIGNATURE

_UNPACKED_MAX_BYTES = 1024 * 1024
"""Pillow's MAX_TEXT_CHUNK: Pillow refuses a file with a longer text or profile."""

_LEAST_BYTES = {b"eXIf": 8, b"acTL": 8, b"fcTL": 26, b"fdAT": 4}
"""Kept ancillary PNG chunks (orientation and animation), with the minimum length that Pillow reads."""

_ORIENTING = {b"Raw profile type exif", b"Raw profile type APP1", b"XML:com.adobe.xmp"}
"""Keywords of the texts that Pillow searches for an orientation."""


@dataclass(frozen=True)
class Readable:
    """A file to decode. `profile_dropped`: its colour profile could not be unpacked and was removed."""

    data: bytes
    profile_dropped: bool = False


def readable(data: bytes) -> Readable:
    """Copy a file without metadata that the picture does not need. Returns `data` itself if there is none."""
    if data.startswith(SIGNATURE):
        return _readable_png(data)
    if data.startswith(b"\xff\xd8\xff"):
        return Readable(_joined(data, _jpeg_parts(data)))
    return Readable(data)


def _joined(data: bytes, parts: Iterator[tuple[int, int]]) -> bytes:
    """Join the kept ranges, with one copy for each gap."""
    ranges: list[tuple[int, int]] = []
    for start, end in parts:
        if ranges and ranges[-1][1] == start:
            ranges[-1] = ranges[-1][0], end
        else:
            ranges.append((start, end))
    if ranges == [(0, len(data))]:
        return data
    view = memoryview(data)
    return b"".join(view[start:end] for start, end in ranges)


def _readable_png(data: bytes) -> Readable:
    dropped: list[bytes] = []
    copy = _joined(data, _png_parts(data, dropped))
    return Readable(copy, profile_dropped=b"iCCP" in dropped)


def _png_parts(data: bytes, dropped: list[bytes]) -> Iterator[tuple[int, int]]:
    """The ranges of a PNG to keep: all critical chunks, and the ancillary chunks that are valid and needed."""
    yield 0, len(SIGNATURE)
    at, texts = len(SIGNATURE), set[bytes]()
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        ancillary = kind.isalpha() and kind[:1].islower() and kind != b"tRNS"
        if ancillary and end > len(data):  # the file ends inside metadata: the pixels may be complete
            return
        if not ancillary or _sound(data, at, end, kind, texts):
            yield at, min(end, len(data))
        else:
            dropped.append(kind)
        if kind == b"IEND":
            return
        at = end
    if at < len(data):
        yield at, len(data)


def _sound(data: bytes, at: int, end: int, kind: bytes, texts: set[bytes]) -> bool:
    """Whether an ancillary chunk is used, has the right checksum and can be unpacked."""
    if kind not in _LEAST_BYTES and kind not in {b"iCCP", b"tEXt", b"zTXt", b"iTXt"}:
        return False
    if zlib.crc32(memoryview(data)[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
        return False
    body = memoryview(data)[at + 8 : end - 4]
    if kind in _LEAST_BYTES:
        return len(body) >= _LEAST_BYTES[kind]
    keyword, found, _ = bytes(body[:80]).partition(b"\0")
    rest = body[len(keyword) + 1 :]
    if kind == b"iCCP":
        return bool(found) and rest[:1] == b"\0" and _unpacks(rest[1:])
    if not found or keyword not in _ORIENTING or keyword in texts:
        return False
    texts.add(keyword)
    if kind == b"zTXt":
        return rest[:1] == b"\0" and _unpacks(rest[1:])
    if kind == b"iTXt" and rest[:2] == b"\1\0":
        fields = bytes(rest[2:]).split(b"\0", 2)
        return len(fields) == 3 and _unpacks(memoryview(fields[2]))
    return len(rest) <= _UNPACKED_MAX_BYTES


def _unpacks(packed: memoryview) -> bool:
    """Whether zlib unpacks it completely, within Pillow's limit."""
    unpacker = zlib.decompressobj()
    try:
        unpacker.decompress(packed, _UNPACKED_MAX_BYTES)
    except zlib.error:
        return False
    return unpacker.eof


_JPEG_LEAST_BYTES = {0xE0: 14, 0xEE: 12}
"""JFIF and Adobe segments give the colour coding. libjpeg (jdmarker.c) ignores a segment shorter than this."""

_SOS = 0xDA
_ICC = b"ICC_PROFILE\0"


def _jpeg_parts(data: bytes) -> Iterator[tuple[int, int]]:
    """The ranges of a JPEG to keep: all except comments and unneeded application segments."""
    yield 0, 2
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        end = at + 2 + length
        if marker == _SOS or marker == 0xFF or length < 2 or end > len(data):
            break
        if not (0xE0 <= marker <= 0xEF or marker == 0xFE) or _needed(marker, data[at + 4 : end]):
            yield at, end
        at = end
    yield at, len(data)


def _needed(marker: int, body: bytes) -> bool:
    if marker in _JPEG_LEAST_BYTES:
        return len(body) >= _JPEG_LEAST_BYTES[marker]
    if marker == 0xE1:
        return body.startswith((b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"))
    return marker == 0xE2 and body.startswith(_ICC) and len(body) > len(_ICC) + 2

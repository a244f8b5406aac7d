"""Reduces a TIFF file to its first page without metadata, so that libtiff reads only simple files.

Supported: grey, palette, RGB and CMYK with 1 to 16 bits, uncompressed or with LZW, Deflate or PackBits compression, in
strips or tiles. The copy of the file gets a directory with only the tags for these.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

_BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLE_FORMAT, _COLOUR_MAP = 258, 259, 262, 339, 320
_STRIPS, _STRIP_LENGTHS, _TILES, _TILE_LENGTHS = 273, 279, 324, 325
_WIDTH, _LENGTH, _TILE_WIDTH, _TILE_LENGTH, _ICC = 256, 257, 322, 323, 34675

_TAGS = frozenset(
    {_WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLE_FORMAT, _COLOUR_MAP, _TILE_WIDTH, _TILE_LENGTH, _ICC}
    | {_STRIPS, _STRIP_LENGTHS, _TILES, _TILE_LENGTHS}
    | {266, 274, 277, 278, 284, 317, 332, 338}
    # fill order, orientation, samples, rows of a strip, planes, predictor, ink set, extra samples
)
_PLAIN = {1, 5, 8, 32773, 32946}
"""Supported compressions: none, LZW, Deflate, PackBits, Deflate under its old number."""
_COMPRESSION_NAMES = {2: "CCITT", 3: "CCITT", 4: "CCITT", 6: "JPEG", 7: "JPEG", 34925: "LZMA", 50000: "Zstandard"}
_COLOURS = {0: "grey", 1: "grey", 2: "RGB", 3: "palette", 5: "CMYK"}
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
"""Bytes per value, by type (TIFF 6.0, section 2)."""
_TILE_SPARE_PX = 1024 * 1024
_MOST_ENTRIES = 4096
_MOST_VALUES = dict.fromkeys((_STRIPS, _STRIP_LENGTHS, _TILES, _TILE_LENGTHS, _COLOUR_MAP), 1 << 18)
_MOST_VALUES_OF_OTHERS = 1024
"""A tag with more values is damaged. Pillow and this module need up to 40 bytes for each value, so that a file of
25 MB whose tags share one range of it would take gigabytes. 16,383 rows of 4 planes have 65,532 strips; a colour map of
16 bits has 196,608 values."""


class NotRead(ValueError):
    """A valid TIFF of an unsupported kind. The message names the kind."""


@dataclass(frozen=True)
class Page:
    """data: a TIFF of one page. several: the file had more. profile_dropped: its colour profile was truncated."""

    data: bytes
    several: bool
    profile_dropped: bool


def first_page(data: bytes) -> Page:
    """Copy the first page without metadata. Raises NotRead, or ValueError for a damaged directory."""
    order = "<" if data[:2] == b"II" else ">"
    try:
        entries, following = _directory(data, order)
        kept = {tag: _values(data, order, entry) for tag, entry in entries.items() if tag in _TAGS}
        profile_dropped = _ICC in kept and kept[_ICC] is None
        if profile_dropped:
            del kept[_ICC]
        whole = {tag: values for tag, values in kept.items() if values is not None}
        if len(whole) < len(kept):
            raise ValueError("a value is cut off")
        _check({tag: values[0] for tag, values in whole.items() if values})
        for starts, lengths in ((_STRIPS, _STRIP_LENGTHS), (_TILES, _TILE_LENGTHS)):
            _check_inside(whole.get(starts, ()), whole.get(lengths, ()), len(data))
    except struct.error as short:
        raise ValueError("the directory is cut off") from short
    at = len(data) + len(data) % 2
    directory = struct.pack(order + "H", len(kept)) + b"".join(entries[tag] for tag in sorted(kept)) + bytes(4)
    copy = b"".join((data[:4], struct.pack(order + "I", at), memoryview(data)[8:], bytes(at - len(data)), directory))
    return Page(copy, following != 0, profile_dropped)


def _directory(data: bytes, order: str) -> tuple[dict[int, bytes], int]:
    """The entries of the first directory, 12 bytes each, and the offset of the next one (0: none)."""
    (at,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, at)
    if not 0 < count <= _MOST_ENTRIES:
        raise ValueError("the directory has no entries, or far too many")
    (following,) = struct.unpack_from(order + "I", data, at + 2 + 12 * count)
    starts = range(at + 2, at + 2 + 12 * count, 12)
    return {struct.unpack_from(order + "H", data, start)[0]: data[start : start + 12] for start in starts}, following


def _values(data: bytes, order: str, entry: bytes) -> Sequence[int] | None:
    """The integer values of a tag. Empty for a colour profile or another type, None if the values are truncated.

    Raises ValueError for a tag with far too many values.
    """
    tag, kind, count = struct.unpack_from(order + "HHI", entry)
    if tag != _ICC and count > _MOST_VALUES.get(tag, _MOST_VALUES_OF_OTHERS):
        raise ValueError("a tag has far too many values")
    size = _SIZES.get(kind, 1) * count
    source, at = (entry, 8) if size <= 4 else (data, struct.unpack_from(order + "I", entry, 8)[0])
    if at + size > len(source):
        return None
    code = None if tag == _ICC else {1: "B", 3: "H", 4: "I"}.get(kind)
    return () if code is None else struct.unpack_from(f"{order}{count}{code}", source, at)


def _check_inside(starts: Sequence[int], lengths: Sequence[int], end: int) -> None:
    """Raises ValueError for strips or tiles outside the file."""
    if len(lengths) < len(starts) or any(at + size > end for at, size in zip(starts, lengths, strict=False)):
        raise ValueError("pixels are cut off")


def _check(values: dict[int, int]) -> None:
    """Raises NotRead for an unsupported kind, ValueError for tiles far larger than the picture."""
    compression, bits, colours = values.get(_COMPRESSION, 1), values.get(_BITS, 1), values.get(_PHOTOMETRIC, 0)
    if compression not in _PLAIN:
        raise NotRead(f"with {_COMPRESSION_NAMES.get(compression, 'another')} compression")
    if colours not in _COLOURS:
        raise NotRead("with colours other than grey, RGB and CMYK")
    if values.get(_SAMPLE_FORMAT, 1) != 1:
        raise NotRead("with signed or floating-point numbers")
    if bits not in {1, 2, 4, 8, 16} or (bits == 16 and colours == 0):
        raise NotRead(f"with {bits} bits a channel" + (" where 0 is white" if bits == 16 else ""))
    tile_px = values.get(_TILE_WIDTH, 0) * values.get(_TILE_LENGTH, 0)
    if tile_px > 4 * values.get(_WIDTH, 0) * values.get(_LENGTH, 0) + _TILE_SPARE_PX:
        raise ValueError("a tile is far larger than the picture")

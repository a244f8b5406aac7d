"""Icons and cursors (ICO, CUR): the largest picture of the file, as a PNG or as an icon with that picture alone.

The sizes come from the pictures' own headers. The directory's sizes are not reliable: a PNG in it can have any size.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from imagegen.images.png import SIGNATURE

_LEAST_BYTES = 40
"""The length of a BMP's header. Every PNG is longer."""
_BMP_SIDE_PX = 256
"""The longest side of a BMP in an icon, as its directory cannot state a longer one."""
_MOST_PICTURES = 256


@dataclass(frozen=True)
class _Picture:
    data: bytes
    width: int
    height: int
    bits: int

    @property
    def order(self) -> tuple[int, int]:
        """Sort key for `largest`: pixels, then colours."""
        return self.width * self.height, self.bits


def largest(data: bytes) -> bytes:
    """Return the largest picture: a whole PNG, or an ICO with one BMP. Raises ValueError if there is none."""
    (count,) = struct.unpack_from("<H", data, 4)
    found = [_picture(data, 6 + 16 * index) for index in range(min(count, _MOST_PICTURES))]
    best = max((one for one in found if one is not None), key=lambda one: one.order, default=None)
    if best is None:
        raise ValueError("the icon has no picture that can be read")
    if best.data.startswith(SIGNATURE):
        return best.data
    entry = struct.pack("<BBBBHHII", best.width % 256, best.height % 256, 0, 0, 1, best.bits, len(best.data), 22)
    return struct.pack("<HHH", 0, 1, 1) + entry + best.data


def _picture(data: bytes, at: int) -> _Picture | None:
    """The picture of a directory entry. None if it is truncated or of a kind that icons do not have."""
    if at + 16 > len(data):
        return None
    size, start = struct.unpack_from("<II", data, at + 8)
    held = data[start : start + size]
    if len(held) < _LEAST_BYTES:
        return None
    if held.startswith(SIGNATURE):
        width, height = struct.unpack_from(">II", held, 16)
        return _Picture(held, width, height, 32)
    header, width, height, _planes, bits, compression = struct.unpack_from("<IiiHHI", held)
    if header < _LEAST_BYTES or compression or not (0 < width <= _BMP_SIDE_PX and 0 < height // 2 <= _BMP_SIDE_PX):
        return None
    return _Picture(held, width, height // 2, bits)  # the header's height includes the mask

"""How large a picture becomes: what a model can draw, and the size of an edit that keeps its picture's shape. Pure.

All numbers are pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

ROUNDING = 1e-6


@dataclass(frozen=True)
class Sides:
    """The sides that can be drawn: multiples of `multiple` from `least` to `most`.

    Raises ValueError where no multiple fits into `most`.
    """

    least: int
    most: int
    multiple: int

    def __post_init__(self) -> None:
        if self.most < self.multiple:
            raise ValueError(f"no multiple of {self.multiple} fits into {self.most} pixels")

    @property
    def smallest(self) -> int:
        return min(self.largest, -(-self.least // self.multiple) * self.multiple)

    @property
    def largest(self) -> int:
        return self.most // self.multiple * self.multiple

    def up(self, side: int) -> int:
        """What is drawn where somebody asks for `side`."""
        return min(self.largest, -(-side // self.multiple) * self.multiple)

    def nearest(self, side: float) -> int:
        """The side next to `side` that can be drawn."""
        return min(self.largest, max(self.smallest, round(side / self.multiple) * self.multiple))

    def keep_shape(self, ref_w: int, ref_h: int, width: int, height: int) -> bool:
        """Whether width x height is the shape of ref_w x ref_h, but for the rounding of each side to a multiple."""
        off = self.multiple + ROUNDING  # a side that is asked for is rounded up, another one to the nearest
        least = max((width - off) / ref_w, (height - off) / ref_h)
        return least <= min((width + off) / ref_w, (height + off) / ref_h)


def contain_size(ref_w: int, ref_h: int, sides: Sides, area_px: int) -> tuple[int, int]:
    """Width and height of an edit whose caller named neither: the reference's shape at the model's usual area.

    A long reference is drawn larger where its short side would be under the least, as far as its long side goes; past
    that its shape is not kept. Between the ends each side is within half a multiple of the exact shape.
    """
    scale = max(math.sqrt(area_px / (ref_w * ref_h)), sides.smallest / min(ref_w, ref_h))
    scale = min(scale, sides.most / ref_w, sides.most / ref_h)
    return sides.nearest(ref_w * scale), sides.nearest(ref_h * scale)


def shaped(
    ref_w: int, ref_h: int, width: int | None, height: int | None, sides: Sides, area_px: int
) -> tuple[int, int]:
    """The same where the caller may have named one side: the other one follows from the reference's shape."""
    if width is not None:
        return sides.up(width), sides.nearest(width * ref_h / ref_w)
    if height is not None:
        return sides.nearest(height * ref_w / ref_h), sides.up(height)
    return contain_size(ref_w, ref_h, sides, area_px)

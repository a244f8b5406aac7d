"""Computes picture sizes: the range of a model, the size of an edit that keeps its picture's shape, and the nearest
size for a client whose default is outside the range. Pure.

All numbers are pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from imagegen.models.entry import Entry

ROUNDING = 1e-6


@dataclass(frozen=True)
class Sides:
    """The allowed lengths of a side: multiples of `multiple` from `least` to `most`.

    Raises ValueError if `most` is less than `multiple`.
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
        """Round `side` up to a multiple, at most `largest`."""
        return min(self.largest, -(-side // self.multiple) * self.multiple)

    def nearest(self, side: float) -> int:
        """The allowed length nearest to `side`."""
        return min(self.largest, max(self.smallest, round(side / self.multiple) * self.multiple))

    def into(self, side: int | None) -> int | None:
        """`side` itself if it is None or within the range, else the nearest allowed length."""
        return side if side is None or side in self else self.nearest(side)

    def __contains__(self, side: int) -> bool:
        """Whether `side` is within the range. It need not be a multiple; see `up`."""
        return min(self.least, self.largest) <= side <= self.most

    def __str__(self) -> str:
        return f"{self.smallest} px" if self.smallest == self.largest else f"{self.smallest} to {self.largest} px"


@dataclass(frozen=True)
class Sizes:
    """The sizes that a model can draw."""

    width: Sides
    height: Sides

    @classmethod
    def of(cls, entry: Entry, max_dimension: int) -> Sizes:
        """The entry's ranges, limited by the operator's `max_dimension`, which takes precedence."""
        (least_w, most_w), (least_h, most_h) = entry.side_range("width"), entry.side_range("height")
        return cls(
            Sides(least_w, min(max_dimension, most_w or max_dimension), entry.size_multiple),
            Sides(least_h, min(max_dimension, most_h or max_dimension), entry.size_multiple),
        )

    def up(self, width: int, height: int) -> tuple[int, int]:
        """Round each side up to a multiple."""
        return self.width.up(width), self.height.up(height)

    def nearest(self, width: float, height: float) -> tuple[int, int]:
        """The nearest allowed length of each side separately."""
        return self.width.nearest(width), self.height.nearest(height)

    def keep_shape(self, ref_w: int, ref_h: int, width: int, height: int) -> bool:
        """Whether width x height has the shape of ref_w x ref_h, except for rounding each side to a multiple."""
        # a requested side is rounded up, a computed side to the nearest multiple
        off_w, off_h = self.width.multiple + ROUNDING, self.height.multiple + ROUNDING
        least = max((width - off_w) / ref_w, (height - off_h) / ref_h)
        return least <= min((width + off_w) / ref_w, (height + off_h) / ref_h)

    def __str__(self) -> str:
        if str(self.width) == str(self.height):
            return f"sides of {self.width}"
        return f"a width of {self.width} and a height of {self.height}"


def reduced(width: int | None, height: int | None, sizes: Sizes) -> tuple[int | None, int | None]:
    """Fit a size into the model's range, for clients that do not know the range and default to, say, 1024x1024.

    width, height: at least 1. If one side is None it stays None, and the other becomes the nearest allowed length.
    Returns a size within the range unchanged. Otherwise returns the nearest size of exactly the same shape if the range
    has one, else the nearest size, with the same shape except for rounding where possible.
    """
    if width is None or height is None:
        return sizes.width.into(width), sizes.height.into(height)
    if width in sizes.width and height in sizes.height:
        return width, height
    across, down = _unit(width, height, sizes)
    least = max(-(-sizes.width.smallest // across), -(-sizes.height.smallest // down))
    most = min(sizes.width.largest // across, sizes.height.largest // down)
    if least <= most:
        times = min(most, max(least, width // across))
        return across * times, down * times
    return contain_size(width, height, sizes, width * height)


def hinted(width: int, height: int, entry: Entry, max_dimension: int) -> tuple[int | None, int | None]:
    """Fit a template's size into the range of `entry`, with the same shape if possible.

    Returns None, None for a noise model: its default size is equally good and fastest.
    """
    if entry.noise:
        return None, None
    sizes = Sizes.of(entry, max_dimension)
    across, down = reduced(width, height, sizes)
    assert across is not None and down is not None
    return sizes.up(across, down)


def _unit(width: int, height: int, sizes: Sizes) -> tuple[int, int]:
    """The smallest size of exactly this shape whose sides are multiples of the model's `multiple`."""
    shape = math.gcd(width, height)
    across, down = width // shape, height // shape
    times = math.lcm(
        sizes.width.multiple // math.gcd(sizes.width.multiple, across),
        sizes.height.multiple // math.gcd(sizes.height.multiple, down),
    )
    return across * times, down * times


def contain_size(ref_w: int, ref_h: int, sizes: Sizes, area_px: int) -> tuple[int, int]:
    """Width and height of an edit that sets neither: the reference's shape at the area `area_px`.

    If the short side would be below the minimum, both sides are scaled up until the long side reaches its maximum.
    Beyond that the shape is not kept. Within the range each side is within half a multiple of the exact shape.
    """
    scale = max(math.sqrt(area_px / (ref_w * ref_h)), sizes.width.smallest / ref_w, sizes.height.smallest / ref_h)
    scale = min(scale, sizes.width.most / ref_w, sizes.height.most / ref_h)
    return sizes.nearest(ref_w * scale, ref_h * scale)


def shaped(
    ref_w: int, ref_h: int, width: int | None, height: int | None, sizes: Sizes, area_px: int
) -> tuple[int, int]:
    """Width and height of an edit that sets at most one side: the other side follows the reference's shape."""
    if width is not None:
        return sizes.width.up(width), sizes.height.nearest(width * ref_h / ref_w)
    if height is not None:
        return sizes.width.nearest(height * ref_w / ref_h), sizes.height.up(height)
    return contain_size(ref_w, ref_h, sizes, area_px)

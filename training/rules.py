"""Plain rules on the pixels of a picture (rows, columns, RGB): what can be seen without a classifier."""

from __future__ import annotations

import numpy as np
from objects import BACKGROUNDS

CLEARLY = 40
"""Steps of 255 by which a pixel differs from the background."""
HALVES = {"left": (0.0, 0.25), "right": (0.5, 0.25), "upper": (0.25, 0.0), "lower": (0.25, 0.5)}
"""Where the squares of half a side begin (x, y) that hold one thing each of a pair."""
CORNER = (0.62, 0.0, 0.38)
"""Where an added thing is: x, y and side."""


def border(picture: np.ndarray) -> np.ndarray:
    """The median colour of the outermost pixels."""
    p = picture.astype(float)
    return np.median(np.concatenate([p[:2], p[-2:], p[:, :2].swapaxes(0, 1), p[:, -2:].swapaxes(0, 1)], 1), (0, 1))


def background(picture: np.ndarray) -> str:
    """The background whose colour is nearest to that of the border."""
    found = border(picture)
    return min(BACKGROUNDS, key=lambda name: float(np.abs(found - BACKGROUNDS[name]).sum()))


def covered(picture: np.ndarray) -> np.ndarray:
    """Which pixels (rows, columns) are not background."""
    return np.abs(picture.astype(float) - border(picture)).max(-1) > CLEARLY


def same_shape(before: np.ndarray, after: np.ndarray, least: float = 0.75) -> bool:
    """Whether what is not background covers the same place: intersection over union."""
    a, b = covered(before), covered(after)
    return bool((a & b).sum() >= least * max(1, (a | b).sum()))


def square(picture: np.ndarray, x: float, y: float, side: float) -> np.ndarray:
    """The square that begins at (x, y), all in parts of the picture's side."""
    n = len(picture)
    return picture[round(y * n) : round((y + side) * n), round(x * n) : round((x + side) * n)]


def half(picture: np.ndarray, which: str) -> np.ndarray:
    return square(picture, *HALVES[which], 0.5)


def without_corner(picture: np.ndarray) -> np.ndarray:
    """The picture with background where an added thing is."""
    found = picture.copy()
    square(found, *CORNER)[:] = border(picture)
    return found


def is_empty(mask: np.ndarray, most: float = 0.03) -> bool:
    """Whether of a part of `covered` next to nothing is."""
    return bool(mask.mean() < most)


def arrows_join(picture: np.ndarray, boxes: int) -> bool:
    """Whether there are this many boxes in a row and an arrow in every gap between them.

    A box is where what is not background reaches far from its top to its bottom. An arrow goes along its whole gap, an
    eighth at either end left out, and has a head: at least two columns are clearly taller than its line.
    """
    mask = covered(picture)
    if not mask.any():
        return False
    top, bottom = mask.argmax(0), len(mask) - mask[::-1].argmax(0)
    reach = np.where(mask.any(0), bottom - top, 0)
    inside = np.flatnonzero(reach > 0.72 * reach.max())
    jumps = np.flatnonzero(np.diff(inside) > 0.03 * len(picture))
    if len(jumps) != boxes - 1:
        return False
    return all(_is_arrow(mask[:, inside[i] + 1 : inside[i + 1]].sum(0), len(picture) / 64) for i in jumps)


def _is_arrow(gap: np.ndarray, least: float) -> bool:
    """`gap`: how many pixels of each column are not background; a line is `least` pixels thick or more."""
    trim = max(1, len(gap) // 8)
    columns = gap[trim:-trim]
    if len(columns) < 4 or not columns.all():
        return False
    line = max(least, float(np.percentile(columns, 20)))
    return bool((columns > 1.8 * line).sum() >= 2)

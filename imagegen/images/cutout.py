"""Cuts the plain background out of a drawn picture: alpha from the pixels, no model.

The background is the area of nearly one colour that reaches the border. Areas of that colour which the subject
encloses stay. Alpha is 0 there, 1 in the subject, and soft in a band along the edge: a pixel of the band is a mixture
of the background's colour B and the subject's colour F beside it. Its alpha is how far it is from B on the way to F,
and its own colour is what remains when B is taken out, so that no rim of the old background is left.

Synchronous and thread-safe. Colours are 8-bit levels.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from imagegen.images.pixels import flat_rgb, saved
from imagegen.schemas import Warn

Pixels = NDArray[np.float32]  # height, width, 3
Levels = NDArray[np.float32]  # height, width
Area = NDArray[np.bool_]  # height, width

TOLERANCE_LEAST, TOLERANCE_MOST = 10.0, 32.0
"""Levels, in the channel that differs most, by which the background may differ from its colour. Between these two the
border's own noise decides. A gradient spans more."""
NOISE_MARGIN = 1.5
"""Tolerance for each level of noise at the border (its 99th percentile)."""
PLAIN_SHARE = 0.75
"""The least share of the border that must have the background's colour: the subject may reach one side."""
SUBJECT_SHARE = 0.002
"""The least share of the picture that must be left. Less: a blank picture, or a subject in the background's colour."""
BACKGROUND_SHARE = 0.05
"""The least share that must be cut out. Less is a frame around a picture that has no plain background."""
STRONG = 64.0
"""Levels from the background from which a line is a line, and not a faint mark such as steam."""
OPAQUE = 0.95
"""Alpha from which a pixel is the subject's own."""
BAND_PX_PER_SIDE = 1 / 320
"""Half the width of the soft band, for each pixel of the longer side; at least 3 pixels."""
BIN = 16
"""Levels that count as one colour while the background's colour is looked for."""


REMOVED = Warn(
    code="background_removed",
    detail="The plain background was made transparent. Areas of its colour that the subject encloses were kept.",
)
ADVICE = "Ask for one subject on a plain background of a colour that the subject does not have, or try another seed."


@dataclass(frozen=True)
class Cutout:
    """The picture without its background: an RGBA PNG. Or, if it has no plain background, None and the reason."""

    png: bytes | None
    kept_because: str = ""


def cut_out(png: bytes) -> Cutout:
    """Make the border-connected plain background of a picture transparent.

    png: a whole PNG file, as `finish_png` accepts it.
    """
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        picture = np.asarray(flat_rgb(image)).astype(np.float32)
    border = np.concatenate([picture[0], picture[-1], picture[1:-1, 0], picture[1:-1, -1]])
    colour, tolerance, share = _plain_colour(border)
    if share < PLAIN_SHARE:
        return Cutout(None, f"only {share:.0%} of its border has one colour")
    distance = np.abs(picture - colour).max(axis=2)
    alike = distance <= tolerance
    outside = _connected(_border_of(alike), alike)
    if outside.mean() > 1 - SUBJECT_SHARE:
        return Cutout(None, "nothing stands out from its background")
    if outside.mean() < BACKGROUND_SHARE:
        return Cutout(None, "its border has one colour, but the area of that colour is only a frame")
    return Cutout(_rgba_png(picture, colour, distance, outside, tolerance))


def _plain_colour(border: Pixels) -> tuple[Pixels, float, float]:
    """The commonest colour of the border, its tolerance in levels, and the share of the border within it."""
    bins = (border // BIN).astype(np.int64) @ np.array([65536, 256, 1])
    values, counts = np.unique(bins, return_counts=True)
    commonest = border[bins == values[counts.argmax()]]
    near = np.abs(border - np.median(commonest, axis=0)).max(axis=1) <= TOLERANCE_MOST
    colour = np.median(border[near], axis=0)
    off = np.abs(border[near] - colour).max(axis=1)
    noise = float(np.percentile(off, 99))
    tolerance = min(TOLERANCE_MOST, max(TOLERANCE_LEAST, noise * NOISE_MARGIN))
    return colour, tolerance, float((np.abs(border - colour).max(axis=1) <= tolerance).mean())


def _border_of(area: Area) -> Area:
    """The pixels of `area` that are at the picture's border."""
    border = np.ones_like(area)
    border[1:-1, 1:-1] = False
    return area & border


def _connected(reached: Area, area: Area) -> Area:
    """The part of `area` that `reached`, a part of it, is connected to, by sides of pixels."""
    count = -1
    while (now := int(reached.sum())) != count:
        count = now
        reached = _along_rows(reached, area)
        reached = _along_rows(reached.T, area.T).T
    return reached


def _along_rows(reached: Area, area: Area) -> Area:
    """Extend `reached` to the whole of every row's runs of `area` that it touches."""
    starts = area.copy()
    starts[:, 1:] &= ~area[:, :-1]
    run = np.cumsum(starts.ravel()).reshape(area.shape)  # the number of the run, inside `area`
    touched = np.zeros(int(run[-1, -1]) + 1, bool)
    touched[run[reached]] = True
    return area & touched[run]


def _rgba_png(picture: Pixels, colour: Pixels, distance: Levels, outside: Area, tolerance: float) -> bytes:
    width = max(3, round(max(outside.shape) * BAND_PX_PER_SIDE))
    band = _grown(outside, width) & _grown(~outside, width)
    alpha = np.where(outside, 0, 1).astype(np.float32)
    mixed = picture - colour
    colours, known = _subject_colours(picture, distance, outside, width)
    full = np.where(known[..., None], colours - colour, 0)
    alpha[band] = _alpha(mixed[band], full[band], colour, tolerance)
    soft = (alpha < OPAQUE) | outside
    alpha[~_connected(outside, soft)] = 1  # inside an outline nothing is see-through
    alpha[outside & (distance <= tolerance / 2)] = 0
    pure = colour + mixed / np.maximum(alpha, 1 / 255)[..., None]
    pure[alpha == 0] = colour  # what a program without transparency shows
    levels = np.concatenate([pure, alpha[..., None] * 255], axis=2)
    return saved(Image.fromarray(np.rint(levels.clip(0, 255)).astype(np.uint8), "RGBA"), "PNG", compress_level=6)


def _alpha(mixed: Pixels, full: Pixels, colour: Pixels, tolerance: float) -> NDArray[np.float32]:
    """Alpha of pixels that differ from the background by `mixed`, beside a subject that differs by `full`.

    full: 0 where the subject's colour is unknown. Alpha is at least so much that the pixel's own colour is between 0
    and 255: a faint mark becomes a strong colour, and hardly covers.
    """
    length = np.maximum((full * full).sum(axis=1), tolerance**2)
    share = (mixed * full).sum(axis=1) / length
    room = np.where(mixed < 0, colour, 255 - colour)
    least = ((np.abs(mixed) - tolerance) / np.maximum(room, 1)).max(axis=1)
    return np.clip(np.maximum(share, least), 0, 1).astype(np.float32)


def _subject_colours(picture: Pixels, distance: Levels, outside: Area, width: int) -> tuple[Pixels, Area]:
    """The subject's colour beside each pixel of the band, and where one is known.

    It is that of the nearest pixels inside. A line too thin to have an inside has a ridge: its pixels that differ most
    from the background. Beside a faint mark there is neither.
    """
    known = ~_grown(outside, width) | ((distance >= STRONG) & (distance == _highest(distance, width)))
    colours = np.where(known[..., None], picture, 0)
    for _ in range(2 * width):
        weights, spread = _sum_around(known.astype(np.float32)[..., None])[..., 0], _sum_around(colours)
        fresh = ~known & (weights > 0)
        colours[fresh] = spread[fresh] / weights[fresh][:, None]
        known |= fresh
    return colours, known


def _highest(levels: Levels, width: int) -> Levels:
    """The highest level within `width` pixels of each pixel."""
    image = Image.fromarray(levels.astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.MaxFilter(2 * width + 1))).astype(np.float32)


def _sum_around(values: Pixels) -> Pixels:
    """The sum of each pixel and its eight neighbours."""
    padded = np.pad(values, ((1, 1), (1, 1), (0, 0)))
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    return rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]


def _grown(area: Area, width: int) -> Area:
    """The area and every pixel at most `width` from it, across, down or diagonally."""
    for _ in range(width):
        area = _sum_around(area.astype(np.float32)[..., None])[..., 0] > 0
    return area

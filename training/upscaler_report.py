"""How well pictures are upscaled: PSNR, the width of edges, and a sheet to look at."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

FILTERS = {"bicubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS}
BEFORE, SPAN = 9, 20
"""An edge lies behind its profile's tenth pixel, of twenty."""
STEP = 60.0
"""Of 255: edges are at least so high."""
MOST = 60
"""Edges of a picture and direction that are measured."""


def enlarged(pictures: np.ndarray, side: int, how: Image.Resampling) -> np.ndarray:
    return np.stack([np.asarray(Image.fromarray(picture).resize((side, side), how)) for picture in pictures])


def psnr(made: np.ndarray, truth: np.ndarray) -> float:
    """Decibels, of the mean over all pictures."""
    error = np.mean([np.square(a.astype(np.float32) - b).mean() for a, b in zip(made, truth, strict=True)])
    return round(10 * math.log10(255**2 / max(float(error), 1e-9)), 2)


def _grey(picture: np.ndarray) -> np.ndarray:
    return picture.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)


class Edges:
    """Clear edges of true pictures, between two plateaus: where they are, and how high."""

    def __init__(self, truth: np.ndarray, seed: int = 1) -> None:
        rng = np.random.default_rng(seed)
        self._found = []
        for picture in truth:
            for grey in (_grey(picture), _grey(picture).T):
                seen = np.lib.stride_tricks.sliding_window_view(grey, SPAN, axis=1)
                left, right = seen[..., BEFORE - 4 : BEFORE - 1], seen[..., BEFORE + 3 : BEFORE + 6]
                low, high = left.mean(-1), right.mean(-1)
                middle, rise = (low + high) / 2, high - low
                clear = (np.abs(rise) > STEP) & (np.ptp(left, -1) < 3) & (np.ptp(right, -1) < 3)
                clear &= (seen[..., BEFORE] - middle) * (seen[..., BEFORE + 1] - middle) <= 0
                at = np.argwhere(clear)
                at = at[rng.permutation(len(at))[:MOST]]
                self._found.append((at, low[tuple(at.T)], rise[tuple(at.T)]))

    def widths(self, made: np.ndarray) -> list[float]:
        """Pixels that each edge takes from 10 to 90 % of its height in these pictures of the same scenes."""
        out = []
        each = (grey for picture in made for grey in (_grey(picture), _grey(picture).T))
        for grey, (at, low, rise) in zip(each, self._found, strict=True):
            seen = np.lib.stride_tricks.sliding_window_view(grey, SPAN, axis=1)[tuple(at.T)]
            out += [_width(profile) for profile in (seen - low[:, None]) / rise[:, None]]
        return out

    def summary(self, made: np.ndarray) -> dict[str, float]:
        widths = self.widths(made)
        return {"median": round(float(np.median(widths)), 2), "mean": round(float(np.mean(widths)), 2)}


def _width(profile: np.ndarray) -> float:
    """From 10 to 90 % of a profile that should rise from 0 to 1; as long as the profile where it does not."""
    crossings = np.flatnonzero((profile[:-1] < 0.5) & (profile[1:] >= 0.5))
    if not len(crossings):
        return float(SPAN)
    at = int(crossings[np.abs(crossings - BEFORE).argmin()])
    above, below = np.flatnonzero(profile[at + 1 :] >= 0.9), np.flatnonzero(profile[: at + 1] <= 0.1)
    if not len(above) or not len(below):
        return float(SPAN)
    up, down = at + 1 + int(above[0]), int(below[-1])
    end = up - (profile[up] - 0.9) / max(profile[up] - profile[up - 1], 1e-6)
    start = down + (0.1 - profile[down]) / max(profile[down + 1] - profile[down], 1e-6)
    return float(end - start)


def measured(inputs: np.ndarray, made: np.ndarray, truth: np.ndarray, edges: Edges) -> dict:
    """PSNR and edge widths of ours and of plain enlarging; inputs (n, h, w, 3), the others (n, 4h, 4w, 3)."""
    ways = {name: enlarged(inputs, truth.shape[1], how) for name, how in FILTERS.items()} | {"ours": made}
    return {name: {"psnr": psnr(got, truth), "edge": edges.summary(got)} for name, got in ways.items()}


def sheet(inputs: np.ndarray, made: np.ndarray, truth: np.ndarray | None = None) -> Image.Image:
    """A row of each picture: the input, by Lanczos, ours, and how it is drawn."""
    side = made.shape[1]
    rows = [enlarged(inputs, side, Image.Resampling.NEAREST), enlarged(inputs, side, FILTERS["lanczos"]), made]
    columns = [np.concatenate(list(part), 0) for part in (*rows, *([] if truth is None else [truth]))]
    return Image.fromarray(np.concatenate(columns, 1))

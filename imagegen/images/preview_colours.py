"""A small convolutional network that corrects the colours of projected latents. Pure arithmetic on arrays.

`training/preview_colours.py` fits it. Synchronous: 16x16 pixels take less than a millisecond.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

Array = np.ndarray


@dataclass(frozen=True)
class PreviewColours:
    """mean, spread: of the projected red, green and blue (0 to 255). layers: kernel (height, width, in, out) and bias
    (out); a ReLU follows each layer except the last, whose output is colour from 0 to 1."""

    mean: Array
    spread: Array
    layers: tuple[tuple[Array, Array], ...]

    def corrected(self, pixels: Array) -> Array:
        """Correct the colours of the engine's projection. Input and output: bytes (height, width, 3)."""
        values = (pixels.astype(np.float32) - self.mean) / self.spread
        for number, (kernel, bias) in enumerate(self.layers, 1):
            margin = kernel.shape[0] // 2
            padded = np.pad(values, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
            windows = sliding_window_view(padded, kernel.shape[:2], axis=(0, 1))  # height, width, in, kernel's sides
            flat = kernel.transpose(2, 0, 1, 3).reshape(-1, kernel.shape[-1])
            # Row by row: OpenBLAS computes small products on this thread and starts its own threads for a large one.
            rows = windows.reshape(*windows.shape[:2], -1)
            values = np.stack([row @ flat for row in rows]) + bias
            if number < len(self.layers):
                values = np.maximum(values, 0)
        rounded: Array = np.clip(values * 255 + 0.5, 0, 255).astype(np.uint8)
        return rounded

    def save(self, path: Path) -> None:
        """Half precision: 40 kB for 20,000 numbers."""
        arrays: dict[str, Any] = {"mean": self.mean, "spread": self.spread}
        for number, (kernel, bias) in enumerate(self.layers):
            arrays |= {f"kernel{number}": kernel.astype(np.float16), f"bias{number}": bias.astype(np.float16)}
        np.savez_compressed(path, **arrays)

    @classmethod
    def load(cls, path: Path | Traversable) -> PreviewColours:
        with path.open("rb") as file, np.load(file) as arrays:
            numbers = range(sum(name.startswith("kernel") for name in arrays))
            layers = tuple(
                (arrays[f"kernel{n}"].astype(np.float32), arrays[f"bias{n}"].astype(np.float32)) for n in numbers
            )
            return cls(arrays["mean"], arrays["spread"], layers)

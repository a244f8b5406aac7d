"""The smallest ESRGAN network that sd-server reads (src/esrgan.hpp): one block of 64 features and growth 32.

The first and the last layers pass the colours through, so its pictures resemble their sources, and a wrong tile shows.
The block has small random weights: it computes as much as a trained one, and adds faint noise.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

SEED = 1234
FEATURES, GROWTH, COLOURS = 64, 32, 3
RESIDUAL_STD = 0.002

Tensors = dict[str, np.ndarray]


class SafetensorsFile:
    """A safetensors file of half-precision tensors. It has the interface of the other files that `make` writes."""

    def __init__(self, tensors: Tensors) -> None:
        self._tensors = {name: tensor.astype("<f2") for name, tensor in tensors.items()}

    @property
    def data(self) -> bytes:
        tensors, end = {}, 0
        for name, tensor in self._tensors.items():
            tensors[name] = {"dtype": "F16", "shape": tensor.shape, "data_offsets": [end, end + tensor.nbytes]}
            end += tensor.nbytes
        header = json.dumps(tensors).encode()
        header += b" " * (-len(header) % 8)
        return len(header).to_bytes(8, "little") + header + b"".join(one.tobytes() for one in self._tensors.values())

    @property
    def written_bytes(self) -> int:
        return len(self.data)

    def write(self, path: Path, on_bytes: Callable[[int], None]) -> None:
        data = self.data
        path.write_bytes(data)
        on_bytes(len(data))


def files(seed: int = SEED) -> dict[str, SafetensorsFile]:
    """The network's file by name."""
    return {"upscaler.safetensors": SafetensorsFile(tensors(seed))}


def tensors(seed: int = SEED, blocks: int = 1) -> Tensors:
    """The weights of a network with `blocks` blocks, by the names of Real-ESRGAN's own files."""
    rng, found = np.random.default_rng(seed), Tensors()

    def random(name: str, inputs: int, outputs: int) -> None:
        found[f"{name}.weight"] = rng.normal(0.0, RESIDUAL_STD, (outputs, inputs, 3, 3))
        found[f"{name}.bias"] = np.zeros(outputs)

    def passing(name: str, inputs: int, outputs: int) -> None:
        found[f"{name}.weight"] = np.zeros((outputs, inputs, 3, 3))
        found[f"{name}.bias"] = np.zeros(outputs)
        for colour in range(COLOURS):
            found[f"{name}.weight"][colour, colour, 1, 1] = 1.0

    passing("conv_first", COLOURS, FEATURES)
    for block in range(blocks):
        for dense in (1, 2, 3):
            for conv in (1, 2, 3, 4, 5):
                inputs, outputs = FEATURES + (conv - 1) * GROWTH, GROWTH if conv < 5 else FEATURES
                random(f"body.{block}.rdb{dense}.conv{conv}", inputs, outputs)
    random("conv_body", FEATURES, FEATURES)
    for name in ("conv_up1", "conv_up2", "conv_hr"):
        passing(name, FEATURES, FEATURES)
    passing("conv_last", FEATURES, COLOURS)
    return found

"""Writes GGUF files with seeded random weights, tensor by tensor, in little memory.

The bytes depend only on the seed and the tensors' names. NumPy keeps its bit generators' streams between versions,
but not its distributions, so normal deviates come from a table of 256 quantiles.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter

F16, F32, Q4_0 = GGMLQuantizationType.F16, GGMLQuantizationType.F32, GGMLQuantizationType.Q4_0

QUANTILES = np.array([NormalDist().inv_cdf((i + 0.5) / 256) for i in range(256)], np.float64)
Q4_0_STD = 4.61  # standard deviation of random nibbles (0…15), in units of a block's scale
CHUNK_BYTES = 4 * 1024 * 1024

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True)
class Tensor:
    """A tensor to write. shape: slowest dimension first. std: 0 means that every value is `mean`.

    rows: ranges of rows (first, beyond last) of a two-dimensional tensor that get values. None: all rows. Other rows
    are zero and take no disk space.
    """

    name: str
    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    std: float
    mean: float = 0.0
    rows: tuple[tuple[int, int], ...] | None = None

    def __post_init__(self) -> None:
        block, _ = GGML_QUANT_SIZES[self.kind]
        if self.shape[-1] % block:
            raise ValueError(f"{self.name}: rows of {self.shape[-1]} are not whole {self.kind.name} blocks of {block}")
        if self.kind is Q4_0 and self.mean:
            raise ValueError(f"{self.name}: {self.kind.name} is made around zero only")

    @property
    def row_bytes(self) -> int:
        block, size = GGML_QUANT_SIZES[self.kind]
        return self.shape[-1] // block * size

    @property
    def nbytes(self) -> int:
        return prod(self.shape[:-1]) * self.row_bytes

    @property
    def written_bytes(self) -> int:
        """Bytes outside the holes."""
        return self.nbytes if self.rows is None else sum(b - a for a, b in self.rows) * self.row_bytes


class _Payload:
    """A tensor that mimics an array: GGUFWriter uses only `nbytes` and `tofile`."""

    def __init__(self, tensor: Tensor, seed: int, on_bytes: Callable[[int], None]) -> None:
        self.nbytes = tensor.nbytes
        self._tensor, self._on_bytes = tensor, on_bytes
        self._bits = np.random.PCG64(np.random.SeedSequence([seed, zlib.crc32(tensor.name.encode())]))

    def tofile(self, out: io.BufferedWriter) -> None:
        """Write the tensor at the position of `out` and move the position to its end."""
        start, tensor = out.tell(), self._tensor
        everything = ((0, prod(tensor.shape[:-1])),)
        for first, last in everything if tensor.rows is None else tensor.rows:
            out.seek(start + first * tensor.row_bytes)
            self._write(out, (last - first) * tensor.shape[-1])
        out.seek(start + tensor.nbytes)
        out.truncate()  # extends the file over a hole at its end

    def _write(self, out: io.BufferedWriter, values: int) -> None:
        block, size = GGML_QUANT_SIZES[self._tensor.kind]
        at_once = CHUNK_BYTES // size * block
        for done in range(0, values, at_once):
            data = self._values(min(at_once, values - done))
            out.write(data.tobytes())
            self._on_bytes(data.nbytes)

    def _values(self, count: int) -> np.ndarray[Any, Any]:
        tensor = self._tensor
        if tensor.kind is Q4_0:
            blocks = np.empty((count // 32, 18), np.uint8)
            blocks[:, :2] = np.array([tensor.std / Q4_0_STD], "<f2").view(np.uint8)
            blocks[:, 2:] = self._random(count // 2).reshape(-1, 16)
            return blocks
        dtype = "<f2" if tensor.kind is F16 else "<f4"
        if tensor.std == 0:
            return np.full(count, tensor.mean, dtype)
        table: np.ndarray[Any, Any] = (QUANTILES * tensor.std + tensor.mean).astype(dtype)
        return table[self._random(count)]

    def _random(self, count: int) -> Bytes:
        raw = self._bits.random_raw(-(-count // 8))
        return raw.astype("<u8").view(np.uint8)[:count]


class RandomGGUF:
    """Collects tensors, then writes them as one GGUF file."""

    def __init__(self, arch: str, seed: int) -> None:
        self._arch, self._seed = arch, seed
        self.tensors: list[Tensor] = []

    def normal(
        self,
        name: str,
        shape: tuple[int, ...],
        std: float,
        kind: GGMLQuantizationType = F16,
        rows: tuple[tuple[int, int], ...] | None = None,
    ) -> None:
        """Add a tensor of normal deviates with mean zero (uniform for q4_0)."""
        self.tensors.append(Tensor(name, shape, kind, std, rows=rows))

    def constant(self, name: str, shape: tuple[int, ...], value: float, kind: GGMLQuantizationType = F32) -> None:
        """Add a tensor with one value everywhere."""
        self.tensors.append(Tensor(name, shape, kind, 0.0, mean=value))

    def hole(self, name: str, shape: tuple[int, ...], kind: GGMLQuantizationType = F16) -> None:
        """Add a tensor of zeros that takes no disk space."""
        self.tensors.append(Tensor(name, shape, kind, 0.0, rows=()))

    @property
    def written_bytes(self) -> int:
        """The bytes that `write` reports in all."""
        return sum(t.written_bytes for t in self.tensors)

    def write(self, path: Path, on_bytes: Callable[[int], None]) -> None:
        """Write the file. Calls `on_bytes` every few MB. Raises OSError."""
        writer = GGUFWriter(path, self._arch)
        writer.add_name("random weights")
        for tensor in self.tensors:
            writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), tensor.nbytes, tensor.kind)
        try:
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            for tensor in self.tensors:
                payload: Any = _Payload(tensor, self._seed, on_bytes)
                writer.write_tensor_data(payload)
        finally:
            writer.close()

"""The package's trained weights: compressed without zeros, and unpacked into GGUF files at set-up.

`pack` writes two files. `NAME.npz` has an index and the stored parts of the tensors, under the engine's tensor names.
`NAME.json` has the expected size and hash of the packed and unpacked files, and the model's vocabulary. A part is
the smallest box that contains every non-zero value. A table whose rows are nearly all the same is stored as that row
and the different rows.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files as package_files
from importlib.resources.abc import Traversable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize

BF16, F16, F32, Q8_0 = (GGMLQuantizationType[name] for name in ("BF16", "F16", "F32", "Q8_0"))
KINDS = {kind.name: kind for kind in (BF16, F16, F32, Q8_0)}
DTYPES = {F16: "<f2", F32: "<f4"}
BLOCK, BLOCK_BYTES = GGML_QUANT_SIZES[Q8_0]  # a 16-bit scale and 32 signed bytes
FORMAT = 1
INDEX = "index"

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Dense:
    """A tensor to pack: float values, slowest dimension first, and the type for the engine."""

    values: Array
    kind: GGMLQuantizationType


@dataclass(frozen=True)
class Table:
    """A bf16 table to pack: `count` rows equal to `fill`, except `rows` (n, width) at the indices `ids`."""

    count: int
    fill: Array
    ids: Sequence[int]
    rows: Array


@dataclass(frozen=True)
class Stated:
    """The expected size and hash of a file."""

    size_bytes: int
    sha256: str


class Pack:
    """One model's weights in the package.

    Every method raises OSError if the package's files are damaged or missing.
    """

    def __init__(self, name: str, folder: Traversable | None = None) -> None:
        self.name = name
        self._folder = package_files("imagegen.models") / "entries" if folder is None else folder

    @property
    def about(self) -> dict[str, Any]:
        """The contents of `NAME.json`."""
        try:
            about = json.loads((self._folder / f"{self.name}.json").read_text("utf-8"))
        except ValueError:
            raise self._damaged(f"{self.name}.json") from None
        assert isinstance(about, dict)
        return about

    @property
    def version(self) -> str:
        """The packed file's SHA-256, which changes with the weights."""
        return str(self.about["packed"]["sha256"])

    @property
    def stated(self) -> dict[str, Stated]:
        """The expected size and hash of each unpacked file, by name."""
        return {name: Stated(**file) for name, file in self.about["files"].items()}

    def files(self) -> dict[str, PackedGGUF]:
        """The files to write, by name. Reads the packed file and checks its SHA-256."""
        packed = (self._folder / f"{self.name}.npz").read_bytes()
        if hashlib.sha256(packed).hexdigest() != self.version:
            raise self._damaged(f"{self.name}.npz")
        return _files(packed, self.stated)

    def _damaged(self, file: str) -> OSError:
        return OSError(errno.EIO, "the package's own copy of the weights is damaged, install imagegen anew", file)


def _files(packed: bytes, stated: Mapping[str, Stated]) -> dict[str, PackedGGUF]:
    parts = np.load(io.BytesIO(packed), allow_pickle=False)
    index = json.loads(parts[INDEX].tobytes())
    if index["format"] != FORMAT:
        raise OSError(errno.EINVAL, f"format {index['format']} of packed weights is not known")
    return {
        file: PackedGGUF(file, about["arch"], [_Stored(one, file, parts) for one in about["tensors"]], stated.get(file))
        for file, about in index["files"].items()
    }


class PackedGGUF:
    """A GGUF file to write from packed weights."""

    def __init__(self, name: str, arch: str, tensors: Sequence[_Stored], stated: Stated | None) -> None:
        self._name, self._arch, self.tensors, self._stated = name, arch, tensors, stated

    @property
    def written_bytes(self) -> int:
        """The bytes that `write` reports in all."""
        return sum(tensor.nbytes for tensor in self.tensors)

    def write(self, path: Path, on_bytes: Callable[[int], None]) -> None:
        """Write the file and check its size and hash. Calls `on_bytes` after each tensor. Raises OSError."""
        writer = GGUFWriter(path, self._arch)
        writer.add_name(self._name)
        for tensor in self.tensors:
            writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), tensor.nbytes, tensor.kind)
        try:
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            for tensor in self.tensors:
                payload: Any = tensor
                writer.write_tensor_data(payload)
                on_bytes(tensor.nbytes)
        finally:
            writer.close()
        if self._stated is not None and state_of(path) != self._stated:
            wrong = "the weights came out otherwise than they were packed: install the versions in requirements/"
            raise OSError(errno.EIO, wrong, path.name)


class _Stored:
    """A tensor of the packed file. It mimics an array: GGUFWriter uses only `nbytes` and `tofile`."""

    def __init__(self, about: Mapping[str, Any], file: str, parts: Mapping[str, Array]) -> None:
        self.name: str = about["name"]
        self.shape: tuple[int, ...] = tuple(about["shape"])
        self.kind = KINDS[about["kind"]]
        self._at: list[int] | None = about.get("at")
        self._key, self._parts = f"{file}/{self.name}", parts

    @property
    def nbytes(self) -> int:
        block, size = GGML_QUANT_SIZES[self.kind]
        return prod(self.shape) // block * size

    @property
    def ids(self) -> list[int]:
        """The indices of a table's rows that differ from its fill, in packed order."""
        found: list[int] = self._parts[f"{self._key}:ids"].tolist()
        return found

    def tofile(self, out: io.BufferedWriter) -> None:
        """Write the tensor at the position of `out`."""
        out.write(self.unpacked().tobytes())

    def unpacked(self) -> Array:
        """The tensor as the engine reads it: values (bf16: its bits), or q8_0 blocks (…, blocks in a row, 34 bytes)."""
        if self.kind is BF16:
            rows = self._parts[self._key]
            table: Array = np.broadcast_to(rows[0], self.shape).copy()
            table[self._parts[f"{self._key}:ids"]] = rows[1:]
            return table
        if self.kind is not Q8_0:
            whole: Array = np.zeros(self.shape, DTYPES[self.kind])
            if self._at is not None:
                part = self._parts[self._key]
                whole[_box(self._at, part.shape)] = part
            return whole
        whole = np.zeros((*self.shape[:-1], self.shape[-1] // BLOCK, BLOCK_BYTES), np.uint8)
        if self._at is not None:
            part = self._blocks()
            whole[_box([*self._at[:-1], self._at[-1] // BLOCK, 0], part.shape)] = part
        return whole

    def _blocks(self) -> Array:
        """Interleave scales and quants. The packed file stores them separately, because that compresses better."""
        scales, quants = self._parts[f"{self._key}:scales"], self._parts[f"{self._key}:quants"]
        scales = np.ascontiguousarray(scales.astype("<f2"))[..., np.newaxis].view(np.uint8)
        return np.concatenate([scales, quants.view(np.uint8)], axis=-1)


def pack(folder: Path, name: str, models: Mapping[str, tuple[str, Mapping[str, Dense | Table]]], **knows: Any) -> Pack:
    """Write `NAME.npz` and `NAME.json` into `folder`.

    models: by file name, the file's architecture and its tensors. knows: further fields of the JSON.
    """
    parts: dict[str, Array] = {}
    files = {}
    for file, (arch, tensors) in models.items():
        about = [_packed(f"{file}/{tensor}", tensor, values, parts) for tensor, values in tensors.items()]
        files[file] = {"arch": arch, "tensors": about}
    index = json.dumps({"format": FORMAT, "files": files}, separators=(",", ":")).encode()
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{INDEX: np.frombuffer(index, np.uint8)}, **parts)  # type: ignore[arg-type]
    packed = buffer.getvalue()
    (folder / f"{name}.npz").write_bytes(packed)
    written = {}
    for file, gguf in _files(packed, {}).items():
        trial = folder / f".{name}-{file}"
        gguf.write(trial, lambda _bytes: None)
        written[file] = state_of(trial)
        trial.unlink()
    stated = {"packed": Stated(len(packed), hashlib.sha256(packed).hexdigest()), "files": written}
    text = json.dumps(stated | knows, indent=2, default=vars, ensure_ascii=False)
    (folder / f"{name}.json").write_text(text + "\n", "utf-8")
    return Pack(name, folder)


def state_of(path: Path) -> Stated:
    """Size and SHA-256 of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Stated(path.stat().st_size, digest)


def _packed(key: str, name: str, tensor: Dense | Table, parts: dict[str, Array]) -> dict[str, Any]:
    """The tensor's entry in the index. Adds its stored values to `parts`."""
    if isinstance(tensor, Table):
        rows = np.concatenate([tensor.fill[np.newaxis], tensor.rows]).astype(np.float32)
        parts[key] = quantize(rows, BF16).view("<u2")
        parts[f"{key}:ids"] = np.asarray(tensor.ids, np.int32)
        return {"name": name, "shape": [tensor.count, len(tensor.fill)], "kind": BF16.name}
    values, kind = np.asarray(tensor.values, np.float32), tensor.kind
    about: dict[str, Any] = {"name": name, "shape": list(values.shape), "kind": kind.name}
    if not values.any():
        return about
    spans = [_span(values, axis) for axis in range(values.ndim)]
    if kind is Q8_0:
        first, last = spans[-1]
        spans[-1] = first // BLOCK * BLOCK, -(-last // BLOCK) * BLOCK
    part = values[tuple(slice(first, last) for first, last in spans)]
    if kind is Q8_0:
        _store_blocks(key, part, parts)
    else:
        parts[key] = part.astype(DTYPES[kind])
    return about | {"at": [first for first, _ in spans]}


def _store_blocks(key: str, values: Array, parts: dict[str, Array]) -> None:
    blocks = quantize(np.ascontiguousarray(values, np.float32), Q8_0).reshape(*values.shape[:-1], -1, BLOCK_BYTES)
    parts[f"{key}:scales"] = np.ascontiguousarray(blocks[..., :2]).view("<f2")[..., 0]
    parts[f"{key}:quants"] = np.ascontiguousarray(blocks[..., 2:]).view(np.int8)


def _span(values: Array, axis: int) -> tuple[int, int]:
    """The first index along `axis` with a non-zero value, and the index after the last one."""
    others = tuple(other for other in range(values.ndim) if other != axis)
    filled = np.flatnonzero(values.any(axis=others))
    return int(filled[0]), int(filled[-1]) + 1


def _box(at: Sequence[int], shape: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(first, first + length) for first, length in zip(at, shape, strict=True))

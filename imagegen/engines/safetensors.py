"""The header of a safetensors file: its tensors, and whether the file is complete. Reads no tensor data.

Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

MAX_HEADER_BYTES = 100_000_000
"""The format's limit."""
OTHER_FORMATS = (b"GGUF", b"PK\x03\x04", b"\x80\x02")
"""First bytes of the other LoRA formats that the engine reads: GGUF, and PyTorch's two pickled formats."""
DTYPE_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64"), 8),
}
"""Bytes of a value, by the format's names of types."""


class NotSafetensors(Exception):
    """The file is not a complete safetensors file. The message is the end of a sentence that begins with its name."""


@dataclass(frozen=True)
class Tensor:
    """A tensor of the header; shape: slowest dimension first."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Header:
    """The tensors by name, and the texts that the file's program added."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str] = field(default_factory=dict)


def read_header(path: Path, max_bytes: int = MAX_HEADER_BYTES) -> Header:
    """The file's header, checked against its size. Raises NotSafetensors, OSError."""
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(MAX_HEADER_BYTES, size_bytes - 8):
            raise NotSafetensors("is no safetensors file (a page of an error, or only a part, was saved in its place)")
        if length > max_bytes:
            raise NotSafetensors(f"has a header of {length:,} bytes, and at most {max_bytes:,} are read")
        try:
            header = json.loads(file.read(length))
            tensors = {name: one for name, one in header.items() if name != "__metadata__"}
            end = max((int(one["data_offsets"][1]) for one in tensors.values()), default=0)
            found = {name: _tensor(name, one) for name, one in tensors.items()}
            metadata = header.get("__metadata__") or {}
            texts = {str(key): value for key, value in metadata.items() if isinstance(value, str)}
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
            raise NotSafetensors("is no safetensors file: its header cannot be read") from None
    if (whole := 8 + length + end) != size_bytes:
        what = "is cut off" if size_bytes < whole else "is longer than its header says"
        raise NotSafetensors(f"{what}: it has {size_bytes:,} bytes instead of {whole:,}")
    return Header(found, texts)


def _tensor(name: str, fields: Mapping[str, Any]) -> Tensor:
    shape, (start, end) = tuple(int(side) for side in fields["shape"]), fields["data_offsets"]
    dtype = str(fields["dtype"])
    if min((start, *shape), default=0) < 0 or start > end:
        raise ValueError
    if dtype in DTYPE_BYTES and end - start != DTYPE_BYTES[dtype] * prod(shape):
        raise NotSafetensors(f"is damaged: the size of its tensor {name[:80]} is not that of its shape")
    return Tensor(dtype, shape)


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of all tensors, by name. Raises NotSafetensors, OSError."""
    return {name: tensor.shape for name, tensor in read_header(path).tensors.items()}


def header_fault(path: Path) -> str | None:
    """The fault of a safetensors file as the end of a sentence that begins with its name, or None."""
    try:
        shapes(path)
    except NotSafetensors as wrong:
        return str(wrong)
    except OSError as failure:
        return f"cannot be read: {failure.strerror}"
    return None


def lora_fault(path: Path) -> str | None:
    """The fault of a LoRA file as the end of a sentence that begins with its name, or None."""
    try:
        with path.open("rb") as file:
            if file.read(4).startswith(OTHER_FORMATS):
                return None
        found = shapes(path)
    except NotSafetensors as wrong:
        return str(wrong)
    except OSError as failure:
        return f"cannot be read: {failure.strerror}"
    return next(odd_pairs(found), None) if found else "has no tensor"


def odd_pairs(found: Mapping[str, tuple[int, ...]]) -> Iterator[str]:
    """Pairs of matrices whose ranks differ: down is rank x in, up is out x rank."""
    for down, up in (("lora_down", "lora_up"), ("lora_A", "lora_B"), ("lora.down", "lora.up")):
        for name, shape in found.items():
            other = found.get(name.replace(down, up)) if down in name else None
            if other is not None and len(shape) >= 2 and len(other) >= 2 and shape[0] != other[1]:
                yield f"has matrices that do not fit each other: {name} is {by(shape)}, its other half {by(other)}"


def by(shape: tuple[int, ...]) -> str:
    """A shape as text, such as `16x3072`."""
    return "x".join(map(str, shape))

"""The header of a safetensors file: its tensors, and whether the file is complete. Reads no tensor data.

Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

MAX_HEADER_BYTES = 100_000_000
"""The format's limit."""
OTHER_FORMATS = (b"GGUF", b"PK\x03\x04", b"\x80\x02")
"""First bytes of the other LoRA formats that the engine reads: GGUF, and PyTorch's two pickled formats."""


class NotSafetensors(Exception):
    """The file is not a complete safetensors file. The message is the end of a sentence that begins with its name."""


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of all tensors, by name. Raises NotSafetensors, OSError."""
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(MAX_HEADER_BYTES, size_bytes - 8):
            raise NotSafetensors("is no safetensors file (a page of an error, or only a part, was saved in its place)")
        try:
            header = json.loads(file.read(length))
            tensors = {name: told for name, told in header.items() if name != "__metadata__"}
            end = max((int(told["data_offsets"][1]) for told in tensors.values()), default=0)
            found = {name: tuple(int(side) for side in told["shape"]) for name, told in tensors.items()}
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
            raise NotSafetensors("is no safetensors file: its header cannot be read") from None
    if (whole := 8 + length + end) != size_bytes:
        what = "is cut off" if size_bytes < whole else "is longer than its header says"
        raise NotSafetensors(f"{what}: it has {size_bytes:,} bytes instead of {whole:,}")
    return found


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
    return next(_odd_pairs(found), None) if found else "has no tensor"


def _odd_pairs(found: dict[str, tuple[int, ...]]) -> Iterator[str]:
    """Pairs of matrices whose ranks differ: down is rank x in, up is out x rank."""
    for down, up in (("lora_down", "lora_up"), ("lora_A", "lora_B"), ("lora.down", "lora.up")):
        for name, shape in found.items():
            other = found.get(name.replace(down, up)) if down in name else None
            if other is not None and len(shape) >= 2 and len(other) >= 2 and shape[0] != other[1]:
                yield f"has matrices that do not fit each other: {name} is {_by(shape)}, its other half {_by(other)}"


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))

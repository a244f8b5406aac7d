"""The header of a GGUF file: its tensors. Reads no tensor data.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

MAGIC = b"GGUF"
MAX_TENSORS = 100_000
MAX_KEYS = 100_000
MAX_ARRAY = 10_000_000
MAX_TEXT_BYTES = 1 << 20
MAX_DIMS = 8
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of a value, by the format's type of value."""
_TEXT, _ARRAY = 8, 9


class NotGguf(Exception):
    """The file is no GGUF file of version 2 or 3, or its header is damaged. The message ends a sentence."""


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of all tensors by name, slowest dimension first. Raises NotGguf, OSError."""
    with path.open("rb") as file:
        try:
            return _shapes(file)
        except (struct.error, UnicodeDecodeError, KeyError):
            raise NotGguf("is no GGUF file: its header cannot be read") from None


def _shapes(file: BinaryIO) -> dict[str, tuple[int, ...]]:
    magic, version, tensors, keys = struct.unpack("<4sIQQ", file.read(24))
    if magic != MAGIC or version not in {2, 3} or tensors > MAX_TENSORS or keys > MAX_KEYS:
        raise NotGguf("is no GGUF file of version 2 or 3")
    for _ in range(keys):
        _text(file)
        _skip(file, _number(file, "<I"))
    found: dict[str, tuple[int, ...]] = {}
    for _ in range(tensors):
        name, dims = _text(file), _number(file, "<I")
        if dims > MAX_DIMS:
            raise NotGguf("is no GGUF file: its header cannot be read")
        found[name] = struct.unpack(f"<{dims}Q", file.read(8 * dims))[::-1]
        file.seek(12, 1)  # its type and its place
    return found


def _number(file: BinaryIO, form: str) -> int:
    return int(struct.unpack(form, file.read(struct.calcsize(form)))[0])


def _text(file: BinaryIO) -> str:
    length = _number(file, "<Q")
    if length > MAX_TEXT_BYTES:
        raise NotGguf("is no GGUF file: its header cannot be read")
    return file.read(length).decode()


def _skip(file: BinaryIO, kind: int) -> None:
    """Skip a value of a metadata key."""
    if kind == _TEXT:
        file.seek(_number(file, "<Q"), 1)
    elif kind != _ARRAY:
        file.seek(_SIZES[kind], 1)
    else:
        inner, count = _number(file, "<I"), _number(file, "<Q")
        if count > MAX_ARRAY:
            raise NotGguf("is no GGUF file: its header cannot be read")
        if inner in _SIZES:
            file.seek(_SIZES[inner] * count, 1)
            return
        for _ in range(count):
            _skip(file, inner)

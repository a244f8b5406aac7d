"""The header of a GGUF file: its tensors, a few texts, and whether the file is complete. Reads no tensor data.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The `gguf` package's reader maps the whole file and
has no bounds; this one refuses counts and lengths that no model has.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_TENSORS, MAX_KEYS, MAX_ITEMS, MAX_TEXT_BYTES, MAX_SIDES = 65_536, 65_536, 4_000_000, 1 << 24, 4
SCALAR_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
TEXT, ARRAY = 8, 9
ALIGNMENT = "general.alignment"


class NotGGUF(Exception):
    """The file is not a complete GGUF file. The message is the end of a sentence that begins with its name."""


@dataclass(frozen=True)
class Header:
    """The texts of the metadata by key, and the shapes of all tensors by name, slowest side first."""

    texts: dict[str, str]
    shapes: dict[str, tuple[int, ...]]


def read(path: Path) -> Header:
    """Read the header of `path`. Raises NotGGUF, OSError."""
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        try:
            return _Reader(file, size_bytes).header()
        except (struct.error, UnicodeDecodeError, OverflowError):
            raise NotGGUF("is no GGUF file that can be read: its header is damaged or cut off") from None


class _Reader:
    def __init__(self, file: BinaryIO, size_bytes: int) -> None:
        self._file, self._size_bytes = file, size_bytes
        self._alignment = 32

    def header(self) -> Header:
        if self._file.read(4) != MAGIC:
            raise NotGGUF("is no GGUF file (a page of an error, or only a part, was saved in its place)")
        version = self._number("<I")
        if version not in VERSIONS:
            raise NotGGUF(f"is a GGUF file of version {version}; versions 2 and 3 can be read")
        tensors, keys = self._count(MAX_TENSORS, "<Q"), self._count(MAX_KEYS, "<Q")
        texts = dict(pair for _ in range(keys) if (pair := self._pair()) is not None)
        shapes: dict[str, tuple[int, ...]] = {}
        end = 0
        for _ in range(tensors):
            name, shape, tensor_end = self._tensor()
            shapes[name] = shape
            end = max(end, tensor_end)
        start = -(-self._file.tell() // self._alignment) * self._alignment
        if tensors and start + end > self._size_bytes:
            raise NotGGUF(f"is cut off: it has {self._size_bytes:,} bytes, and needs {start + end:,}")
        return Header(texts, shapes)

    def _number(self, kind: str) -> int:
        found: int = struct.unpack(kind, self._file.read(struct.calcsize(kind)))[0]
        return found

    def _count(self, most: int, kind: str = "<Q") -> int:
        count = self._number(kind)
        if count > most:
            raise NotGGUF("is no GGUF file that can be read: its header names impossible sizes")
        return count

    def _text(self) -> str:
        return self._file.read(self._count(MAX_TEXT_BYTES)).decode()

    def _skip(self, count_bytes: int) -> None:
        if self._file.tell() + count_bytes > self._size_bytes:
            raise NotGGUF("is no GGUF file that can be read: its header is damaged or cut off")
        self._file.seek(count_bytes, 1)

    def _pair(self) -> tuple[str, str] | None:
        """A key of the metadata with its value, if that is a text."""
        key, kind = self._text(), self._number("<I")
        if kind == TEXT:
            return key, self._text()
        if key == ALIGNMENT and kind == 4:
            self._alignment = max(1, self._count(1 << 20, "<I"))
        elif kind == ARRAY:
            self._array()
        else:
            self._skip(self._scalar_bytes(kind))
        return None

    def _array(self) -> None:
        kind, items = self._number("<I"), self._count(MAX_ITEMS)
        if kind == TEXT:
            for _ in range(items):
                self._skip(self._count(MAX_TEXT_BYTES))
        else:
            self._skip(items * self._scalar_bytes(kind))

    def _scalar_bytes(self, kind: int) -> int:
        if kind not in SCALAR_BYTES:
            raise NotGGUF("is no GGUF file that can be read: its header has a value of an unknown kind")
        return SCALAR_BYTES[kind]

    def _tensor(self) -> tuple[str, tuple[int, ...], int]:
        """A tensor's name, shape and the end of its data, from the start of all data."""
        name = self._text()
        sides = [self._number("<Q") for _ in range(self._count(MAX_SIDES, "<I"))]
        kind, offset = self._number("<I"), self._number("<Q")
        if any(side < 1 for side in sides) or prod(sides) > 1 << 48:
            raise NotGGUF(f"is no GGUF file that can be read: the tensor {name[:60]!r} has an impossible shape")
        block, block_bytes = self._block(kind)
        return name, tuple(reversed(sides)), offset + prod(sides) // block * block_bytes

    def _block(self, kind: int) -> tuple[int, int]:
        """Values and bytes of a block. For a type that this version of `gguf` does not know: no bytes."""
        try:
            return GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
        except (ValueError, KeyError):
            return 1, 0

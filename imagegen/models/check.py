"""Compares a model's files with what is known of them: the size, the file type and the checksum."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from imagegen.engines.safetensors import header_fault
from imagegen.models.download.record import RECORD, recorded
from imagegen.models.entry_tables import ModelFile
from imagegen.models.synthetic.make import stated as stated_by_pack
from imagegen.models.weights import Weights
from imagegen.settings import Settings

GGUF_MAGIC = b"GGUF"
READ_BYTES = 1 << 20
OnBytes = Callable[[int], None]
"""Called with the number of bytes read since the last call."""


@dataclass(frozen=True)
class Stated:
    """A file's expected properties, from its pack, the catalog, or the record of its fetch. None: unknown."""

    size_bytes: int | None = None
    sha256: str | None = None
    git_sha1: str | None = None  # git's blob hash, for small files without a SHA-256

    @property
    def has_checksum(self) -> bool:
        return self.sha256 is not None or self.git_sha1 is not None


@dataclass(frozen=True)
class Checked:
    """The verdict on one file. `detail` is the end of a sentence that begins with its path.

    unknown: nothing is wrong with its size and type, and no checksum is known to compare.
    """

    path: Path
    state: Literal["right", "damaged", "missing", "unknown"]
    detail: str = ""


def check(entry: Weights, settings: Settings, on_bytes: OnBytes = lambda _count: None) -> Iterator[Checked]:
    """Hash every file of `entry`. Missing optional files are left out. Raises OSError for a damaged package."""
    for path, expected in expectations(entry, settings):
        if not path.is_file():
            yield Checked(path, "missing", "is missing")
        elif fault := damage(expected, path, on_bytes=on_bytes):
            yield Checked(path, "damaged", fault)
        elif expected.has_checksum:
            yield Checked(path, "right", "is right")
        else:
            yield Checked(path, "unknown", "has no known checksum: only its size and its type were checked")


def expectations(entry: Weights, settings: Settings) -> Iterator[tuple[Path, Stated]]:
    """Each file that the model needs or has, with its expected properties. Raises OSError for a damaged package."""
    packed = stated_by_pack(entry)
    for file in entry.files:
        path = entry.path_of(file, settings)
        if file.role == "repository" and path.is_file():
            found = sorted(p for p in path.parent.rglob("*") if p.is_file() and p.name != RECORD)
            yield from ((one, _noted(one)) for one in found if not one.name.startswith("."))
        elif (pack := packed.get(file.file)) is not None:
            yield path, Stated(pack.size_bytes, pack.sha256)
        elif path.is_file() or not file.optional:
            yield path, _stated(file, path)


def _stated(file: ModelFile, path: Path) -> Stated:
    noted = _noted(path)
    if file.sha256 is not None:
        return Stated(file.size_bytes or noted.size_bytes, file.sha256)
    return Stated(file.size_bytes or noted.size_bytes, noted.sha256, noted.git_sha1)


def _noted(path: Path) -> Stated:
    """What the record of its fetch says of `path`."""
    noted = recorded(path.parent).get(path.name)
    if not isinstance(noted, dict):
        return Stated()
    size, sha256, git_sha1 = (noted.get(key) for key in ("size_bytes", "sha256", "git_sha1"))
    return Stated(
        size if isinstance(size, int) else None,
        sha256 if isinstance(sha256, str) else None,
        git_sha1 if isinstance(git_sha1, str) else None,
    )


def damage(
    file: Stated, path: Path, hash_up_to: int | None = None, on_bytes: OnBytes = lambda _count: None
) -> str | None:
    """The damage of an existing file as the end of a sentence that begins with its path; None if none is found.

    hash_up_to: a larger file, in bytes, is not hashed.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as opened:
            magic = opened.read(len(GGUF_MAGIC))
            if file.size_bytes is not None and size != file.size_bytes:
                return f"has {size:,} bytes instead of {file.size_bytes:,}"
            if path.suffix == ".gguf" and magic != GGUF_MAGIC:
                return "is not a GGUF file (a page of an error, or only a part, was saved in its place)"
            if path.suffix == ".safetensors" and (fault := header_fault(path)):
                return fault
            if not file.has_checksum or (hash_up_to is not None and size > hash_up_to):
                return None
            opened.seek(0)
            return _wrong_bytes(file, size, opened, on_bytes)
    except OSError as failure:
        return f"cannot be read: {failure.strerror}"


def _wrong_bytes(file: Stated, size_bytes: int, opened: BinaryIO, on_bytes: OnBytes) -> str | None:
    name, expected = ("SHA-256", file.sha256) if file.sha256 else ("git's SHA-1", file.git_sha1 or "")
    hasher: Any = hashlib.sha256()
    if file.sha256 is None:
        hasher = hashlib.sha1(f"blob {size_bytes}\0".encode(), usedforsecurity=False)
    while chunk := opened.read(READ_BYTES):
        hasher.update(chunk)
        on_bytes(len(chunk))
    found = hasher.hexdigest()
    if found == expected:
        return None
    return f"is not the file that was meant ({name} {found[:12]}… instead of {expected[:12]}…)"

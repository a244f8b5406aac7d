"""Read and change which files are in the kernel's page cache."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path


def cached_share(path: Path) -> float:
    """The share of the file in the page cache (mincore(2)), 0 to 1."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE) as m:
        pages = -(-len(m) // mmap.PAGESIZE)
        found = (ctypes.c_ubyte * pages)()
        at = ctypes.addressof(ctypes.c_char.from_buffer(m))
        status = ctypes.CDLL(None).mincore(ctypes.c_void_p(at), ctypes.c_size_t(len(m)), found)
        assert status == 0, "mincore(2) failed"
        return sum(page & 1 for page in found) / pages


def drop(path: Path) -> None:
    """Drop the file from the page cache, except pages that a process maps or that are not on the disk yet."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def fetch(path: Path) -> None:
    """Read the file into the page cache."""
    with path.open("rb", buffering=0) as file:
        buffer = bytearray(1 << 20)
        while file.readinto(buffer):
            pass

"""RAM of this machine, or of the container that the service runs in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil

CGROUP = Path("/sys/fs/cgroup")
_FILES = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),  # cgroup v2
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
)
"""The limit, the use, and the part of the use that the kernel gives up first (files that were read)."""


@dataclass(frozen=True)
class Ram:
    """Bytes in all, and bytes that programs can have without swapping."""

    total_bytes: int
    available_bytes: int


def read(cgroup: Path = CGROUP) -> Ram:
    """The machine's memory (MemAvailable of the kernel), or less if the container has a limit."""
    machine = psutil.virtual_memory()
    ram = Ram(int(machine.total), int(machine.available))
    for limit_file, use_file, stat_file, idle_name in _FILES:
        try:
            limit, use = int((cgroup / limit_file).read_text()), int((cgroup / use_file).read_text())
            rows = dict(line.split() for line in (cgroup / stat_file).read_text().splitlines())
        except (OSError, ValueError):  # no such file, or "max": no limit
            continue
        if limit < ram.total_bytes:
            left = max(0, limit - use + int(rows.get(idle_name, 0)))
            ram = Ram(limit, min(ram.available_bytes, left))
    return ram

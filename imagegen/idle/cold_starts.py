"""The load times of a model, from disk and from the page cache, and the expected time of the next load. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite
from statistics import median
from typing import Any

REMEMBERED = 5
"""Loads kept of each kind. The median of five is robust against one disturbed load."""


def came_from_disk(read_bytes: int, files_bytes: int) -> bool:
    """Whether a load read its files from disk.

    `read_bytes`: bytes that were read from storage for the engine (`read_bytes` in /proc/PID/io), which excludes the
    page cache.
    """
    return read_bytes > files_bytes / 2


@dataclass(frozen=True, slots=True)
class ColdStarts:
    """The last load times of one model on this machine: seconds from no engine process to the first step."""

    from_disk_s: tuple[float, ...] = ()
    from_cache_s: tuple[float, ...] = ()

    def after_load(self, seconds: float, *, from_disk: bool) -> ColdStarts:
        """A copy with one more load, which took `seconds`."""
        if from_disk:
            return replace(self, from_disk_s=(*self.from_disk_s, seconds)[-REMEMBERED:])
        return replace(self, from_cache_s=(*self.from_cache_s, seconds)[-REMEMBERED:])

    def expected_s(self, files_bytes: int, available_bytes: int) -> float | None:
        """Expected seconds of the next load; None if no load has been measured.

        Assumes that the page cache still holds the files if they fit in `available_bytes` (MemAvailable, which
        includes the page cache). Without measurements of one kind, those of the other are used.
        """
        cached = files_bytes <= available_bytes
        first, second = (self.from_cache_s, self.from_disk_s) if cached else (self.from_disk_s, self.from_cache_s)
        loads = first or second
        return median(loads) if loads else None

    def dump(self) -> dict[str, list[float]]:
        """The JSON to store over a restart."""
        return {"from_disk_s": list(self.from_disk_s), "from_cache_s": list(self.from_cache_s)}

    @classmethod
    def restore(cls, kept: Any) -> ColdStarts:
        """The inverse of `dump`. Ignores values that are not positive numbers."""
        kept = kept if isinstance(kept, dict) else {}
        disk, cache = (positive_seconds(kept.get(name))[-REMEMBERED:] for name in ("from_disk_s", "from_cache_s"))
        return cls(disk, cache)


def positive_seconds(kept: Any) -> tuple[float, ...]:
    """The positive finite numbers of a JSON array; () for anything else."""
    if not isinstance(kept, list):
        return ()
    numbers = (float(x) for x in kept if isinstance(x, int | float) and not isinstance(x, bool))
    return tuple(x for x in numbers if isfinite(x) and x > 0)

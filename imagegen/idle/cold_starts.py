"""What a model's loads have taken, from disk and from the page cache, and what the next one will. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite
from statistics import median
from typing import Any

REMEMBERED = 5
"""Loads remembered of each kind: the median of five forgets one disturbed load."""


def came_from_disk(read_bytes: int, files_bytes: int) -> bool:
    """Whether a load read its files from disk.

    `read_bytes`: what the engine's process fetched from storage (`read_bytes` in /proc/PID/io), which counts
    nothing that was in the page cache.
    """
    return read_bytes > files_bytes / 2


@dataclass(frozen=True, slots=True)
class ColdStarts:
    """The last loads of one model on this machine, in seconds from no engine process to the first step."""

    from_disk_s: tuple[float, ...] = ()
    from_cache_s: tuple[float, ...] = ()

    def after_load(self, seconds: float, *, from_disk: bool) -> ColdStarts:
        """Remember a load that took `seconds`."""
        if from_disk:
            return replace(self, from_disk_s=(*self.from_disk_s, seconds)[-REMEMBERED:])
        return replace(self, from_cache_s=(*self.from_cache_s, seconds)[-REMEMBERED:])

    def expected_s(self, files_bytes: int, available_bytes: int) -> float | None:
        """What the next load will take, in seconds; None if no load was measured yet.

        The page cache is expected to still hold the files if they fit in `available_bytes` (MemAvailable,
        which counts the page cache as available). A kind not measured yet is taken to be like the other.
        """
        cached = files_bytes <= available_bytes
        first, second = (self.from_cache_s, self.from_disk_s) if cached else (self.from_disk_s, self.from_cache_s)
        loads = first or second
        return median(loads) if loads else None

    def dump(self) -> dict[str, list[float]]:
        """As JSON, to be kept over a restart."""
        return {"from_disk_s": list(self.from_disk_s), "from_cache_s": list(self.from_cache_s)}

    @classmethod
    def restore(cls, kept: Any) -> ColdStarts:
        """What `dump` gave; whatever is not a positive number of seconds is left out."""
        kept = kept if isinstance(kept, dict) else {}
        disk, cache = (positive_seconds(kept.get(name))[-REMEMBERED:] for name in ("from_disk_s", "from_cache_s"))
        return cls(disk, cache)


def positive_seconds(kept: Any) -> tuple[float, ...]:
    """The positive finite numbers of a JSON array; () for anything else."""
    if not isinstance(kept, list):
        return ()
    numbers = (float(x) for x in kept if isinstance(x, int | float) and not isinstance(x, bool))
    return tuple(x for x in numbers if isfinite(x) and x > 0)

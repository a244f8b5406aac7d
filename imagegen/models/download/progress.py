"""Progress of a fetch, and its text."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from imagegen_client.progress import duration

SILENCE_TOLD_S = 3.0


@dataclass(frozen=True)
class Fetching:
    """Progress of a fetch at `at` (monotonic seconds), in bytes of all files together.

    trouble: why the download is paused, in a few words. waits_s: seconds to the next try, if known. silent_s: seconds
    without received bytes.
    """

    file: str
    done_bytes: int
    total_bytes: int
    bytes_per_s: float | None = None
    trouble: str | None = None
    waits_s: float | None = None
    silent_s: float = 0.0
    at: float = field(default_factory=time.monotonic, compare=False)

    def seen(self, now: float) -> Fetching:
        """The progress at `now`: reduces `waits_s` by the elapsed time, and clears the speed after a silence."""
        age_s = max(0.0, now - self.at)
        if self.trouble is not None:
            return replace(self, waits_s=None if self.waits_s is None else max(0.0, self.waits_s - age_s))
        return self if age_s < SILENCE_TOLD_S else replace(self, bytes_per_s=None, silent_s=age_s)

    @property
    def left_s(self) -> float | None:
        """Estimated seconds left. None without a speed, or if no bytes are left to fetch."""
        left = self.total_bytes - self.done_bytes
        return left / self.bytes_per_s if self.bytes_per_s and left > 0 else None

    @property
    def fraction(self) -> float | None:
        return self.done_bytes / self.total_bytes if self.total_bytes else None

    @property
    def words(self) -> str:
        """The text with the estimated time left."""
        left_s = self.left_s
        return f"{self}, about {duration(left_s)} left" if left_s is not None and left_s >= 1 else str(self)

    def __str__(self) -> str:
        far = f"{self.file}: {size(self.done_bytes)} of {size(self.total_bytes)}" if self.total_bytes else ""
        if self.trouble is not None:
            then = "" if self.waits_s is None else f"; the next try is in {self.waits_s:.0f} s"
            then = "; it is tried again now" if self.waits_s == 0 else then
            return f"{far}{', and ' if far else ''}{self.trouble}{then}"
        if not self.total_bytes:
            return "asking the hub what there is"
        if self.silent_s:
            return f"{far}, nothing has come for {self.silent_s:.0f} s"
        return far + (f", {size(self.bytes_per_s)}/s" if self.bytes_per_s else "")


Tell = Callable[[Fetching], None]
"""Called for every chunk: it must be quick."""


def size(count_bytes: float) -> str:
    """Bytes as MB or GB."""
    return f"{count_bytes / 1e9:.2f} GB" if count_bytes >= 1e9 else f"{count_bytes / 1e6:.1f} MB"

"""Limits the request rate of each token by a token bucket per name."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

BURST_S = 10.0
"""A bucket holds the requests of this time, so that a page can load many pictures at once."""


class RateLimit:
    """One token bucket per name, in memory. `per_s`: sustained requests per second."""

    def __init__(self, per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s, self._clock = per_s, clock
        self._most = max(1.0, per_s * BURST_S)
        self._level: dict[str, tuple[float, float]] = {}  # name: (requests left, time of that count)

    def take(self, name: str) -> int:
        """Count a request. Returns 0 if it is allowed, else the whole seconds until the next one is."""
        now = self._clock()
        left, counted = self._level.get(name, (self._most, now))
        left = min(self._most, left + (now - counted) * self._per_s)
        if left >= 1.0:
            self._level[name] = (left - 1.0, now)
            return 0
        self._level[name] = (left, now)
        return max(1, math.ceil((1.0 - left) / self._per_s))

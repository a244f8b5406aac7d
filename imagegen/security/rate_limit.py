"""How many requests a token may make: a bucket a name, filled at a constant rate."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

BURST_S = 10.0
"""A bucket holds what flows into it in this time, so that a page full of pictures is no offence."""


class RateLimit:
    """Token buckets in memory, as many as there are names. `per_s`: requests a second, in the long run."""

    def __init__(self, per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s, self._clock = per_s, clock
        self._most = max(1.0, per_s * BURST_S)
        self._level: dict[str, tuple[float, float]] = {}  # name: (requests left, when that was counted)

    def take(self, name: str) -> int:
        """0: go on. Else the whole seconds after which there is room again."""
        now = self._clock()
        left, counted = self._level.get(name, (self._most, now))
        left = min(self._most, left + (now - counted) * self._per_s)
        if left >= 1.0:
            self._level[name] = (left - 1.0, now)
            return 0
        self._level[name] = (left, now)
        return max(1, math.ceil((1.0 - left) / self._per_s))

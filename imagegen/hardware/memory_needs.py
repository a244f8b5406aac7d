"""MemoryNeeds: what pictures took of the memory on this machine, and what was too little. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from imagegen.hardware.memory_mode import Known, MemoryMode
from imagegen.schemas import Kind

CPU = "cpu"
"""The mode of an engine without a card: everything is in RAM."""
KEPT = 5
"""Measurements kept for each size: the largest counts, and an old one must be forgotten some day."""
FAILED_FACTOR = 1.05
"""A size that failed with so many bytes available needs at least this factor of them."""
NEWS = 0.02
"""A measurement within this share of the known one is not stored again."""


class NeedKey(NamedTuple):
    """What a measurement depends on besides the size. files_bytes: size of the model's files, because another
    quantisation under the same name has another need. mode: a MemoryMode, or CPU."""

    model: str
    files_bytes: int
    kind: Kind
    mode: str


@dataclass(frozen=True)
class MemoryNeed:
    """What one picture took. `bytes`: of the card, or of RAM in the mode `cpu`.

    pixels: of the picture and its references together. failed: memory ran out, and `bytes` were available.
    """

    key: NeedKey
    pixels: int
    bytes: int
    failed: bool = False


class MemoryNeeds:
    """The measurements of this machine. A picture that succeeds overrules failures of its size and of smaller ones."""

    def __init__(self, measured: Iterable[MemoryNeed] = ()) -> None:
        self._sizes: dict[NeedKey, dict[int, deque[int]]] = {}
        self._failures: dict[NeedKey, dict[int, int]] = {}
        for one in measured:
            self.add(one)

    def add(self, one: MemoryNeed) -> None:
        key = one.key
        failures = self._failures.setdefault(key, {})
        if one.failed:
            failures[one.pixels] = max(one.bytes, failures.get(one.pixels, 0))
            return
        for pixels in [pixels for pixels in failures if pixels <= one.pixels]:
            del failures[pixels]
        self._sizes.setdefault(key, {}).setdefault(one.pixels, deque(maxlen=KEPT)).append(one.bytes)

    def is_news(self, one: MemoryNeed) -> bool:
        """Whether `one` differs from what is known."""
        key = one.key
        failures = self._failures.get(key, {})
        if one.failed:
            return one.bytes > failures.get(one.pixels, 0)
        known = self._sizes.get(key, {}).get(one.pixels)
        overruled = any(pixels <= one.pixels for pixels in failures)
        return overruled or known is None or abs(one.bytes - max(known)) > NEWS * max(known)

    def known(self, key: NeedKey, pixels: int, bytes_per_px: int) -> Known:
        """What is known of a picture of `pixels`. bytes_per_px: growth with the size, used until two are measured.

        A picture takes at least what a smaller one took, and at most what a larger one took.
        """
        failures = self._failures.get(key, {})
        floor = max((int(had * FAILED_FACTOR) for size, had in failures.items() if size <= pixels), default=0)
        peaks = {size: max(kept) for size, kept in self._sizes.get(key, {}).items()}
        if not peaks:
            return Known(None, floor)
        if key.mode != MemoryMode.STREAM:  # there the engine takes what its budget allows
            floor = max(floor, max((peak for size, peak in peaks.items() if size <= pixels), default=0))
        larger = [size for size in peaks if size >= pixels]
        if larger:
            return Known(peaks[min(larger)], floor)
        *others, size = sorted(peaks)
        growth = (peaks[size] - peaks[others[-1]]) / (size - others[-1]) if others else bytes_per_px
        return Known(int(peaks[size] + max(0.0, growth) * (pixels - size)), floor)

    def of(self, model: str, files_bytes: int) -> list[MemoryNeed]:
        """The largest measurement of each kind, mode and size of `model`, and its failures; sorted."""
        found = []
        for key, sizes in self._sizes.items():
            found += [MemoryNeed(key, px, max(kept)) for px, kept in sizes.items()]
        for key, failures in self._failures.items():
            found += [MemoryNeed(key, px, had, failed=True) for px, had in failures.items()]
        found = [one for one in found if (one.key.model, one.key.files_bytes) == (model, files_bytes)]
        return sorted(found, key=lambda one: (one.key.kind, one.key.mode, one.pixels, one.failed))

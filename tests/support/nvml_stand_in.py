"""A stand-in for the NVIDIA driver's library: `pynvml`'s functions for the cards that a test defines.

The machines that run the tests have no GPU. The errors are pynvml's own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pynvml

GB = 10**9


@dataclass
class Card:
    """One card. `holders`: (pid, bytes or None) of the compute processes."""

    name: str = "NVIDIA Made Up 24GB"
    uuid: str = "GPU-aaaa1111-0000"
    total_bytes: int = 24 * GB
    free_bytes: int = 24 * GB
    holders: list[tuple[int, int | None]] = field(default_factory=list)
    painters: list[tuple[int, int | None]] = field(default_factory=list)
    shares_memory: bool = False


class StandIn:
    """Only the functions that `imagegen.gpu` calls. `failure`: raised by every call, as by a broken driver."""

    def __init__(self, *cards: Card) -> None:
        self.cards = list(cards)
        self.failure: pynvml.NVMLError | None = None
        self.opened = self.closed = 0

    def __getattr__(self, name: str) -> Any:
        if name.startswith("NVMLError"):
            return getattr(pynvml, name)
        raise AttributeError(name)

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure
        if self.opened == self.closed:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_UNINITIALIZED)

    def nvmlInit(self) -> None:
        if self.failure is not None:
            raise self.failure
        self.opened += 1

    def nvmlShutdown(self) -> None:
        self.closed += 1

    def nvmlDeviceGetCount(self) -> int:
        self._fail()
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Card:
        self._fail()
        return self.cards[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Card:
        self._fail()
        for card in self.cards:
            if card.uuid == uuid:
                return card
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)

    def nvmlDeviceGetUUID(self, card: Card) -> str:
        self._fail()
        return card.uuid

    def nvmlDeviceGetName(self, card: Card) -> str:
        self._fail()
        return card.name

    def nvmlDeviceGetMemoryInfo(self, card: Card) -> SimpleNamespace:
        self._fail()
        if card.shares_memory:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return SimpleNamespace(total=card.total_bytes, free=card.free_bytes, used=card.total_bytes - card.free_bytes)

    def nvmlDeviceGetComputeRunningProcesses(self, card: Card) -> list[SimpleNamespace]:
        self._fail()
        return [SimpleNamespace(pid=pid, usedGpuMemory=held) for pid, held in card.holders]

    def nvmlDeviceGetGraphicsRunningProcesses(self, card: Card) -> list[SimpleNamespace]:
        self._fail()
        return [SimpleNamespace(pid=pid, usedGpuMemory=held) for pid, held in card.painters]

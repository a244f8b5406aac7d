"""PeakWatch: measures the most memory that an engine takes while it draws one picture."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from imagegen.hardware.gpu import Gpu

EVERY_S = 0.2
"""Interval between readings of the card: the decoder's buffer, the largest, exists for the time of the decoding."""


class PeakWatch:
    """An async context manager around a picture; `peak_bytes` is known after it.

    On a card it reads the driver again and again. Without one it reads the process's highest resident size, which is
    of all its pictures so far and of the load.
    look: reads the card, None without one. before: the card before the load, for drivers that do not report the memory
    of a process.
    """

    def __init__(self, look: Callable[[int | None], Gpu | None] | None, before: Gpu | None, pid: int | None) -> None:
        self._look, self._before, self._pid = look, before, pid
        self._task: asyncio.Task[None] | None = None
        self.peak_bytes: int | None = None

    async def __aenter__(self) -> PeakWatch:
        if self._look is not None:
            self._task = asyncio.create_task(self._watch(self._look), name="memory-watch")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        elif self._pid is not None:
            self.peak_bytes = _highest_resident_bytes(self._pid)

    async def _watch(self, look: Callable[[int | None], Gpu | None]) -> None:
        while True:
            card = await asyncio.to_thread(look, self._pid)
            if card is not None and (taken := _taken(card, self._before)) is not None:
                self.peak_bytes = max(taken, self.peak_bytes or 0)
            await asyncio.sleep(EVERY_S)


def _taken(card: Gpu, before: Gpu | None) -> int | None:
    """Bytes of the card that the engine holds; None if the driver does not report enough to tell."""
    if card.ours_bytes is not None or before is None:
        return card.ours_bytes
    taken = card.taken_since(before)
    return None if taken is None else max(0, taken)


def _highest_resident_bytes(pid: int) -> int | None:
    """VmHWM of a process; None if the kernel does not report it."""
    try:
        rows = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next((int(row.split()[1]) * 1024 for row in rows if row.startswith("VmHWM:")), None)
    except (OSError, ValueError):
        return None

"""Sharing a GPU with other programs: wait for free memory, release memory that others want, verify the release."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from imagegen.engine_build import probe
from imagegen.engines.base import EngineError
from imagegen.hardware import compatibility
from imagegen.hardware.gpu import Gpu, Holder
from imagegen.models.entry import Entry
from imagegen.models.packages import torch_uses_cuda
from imagegen.schemas import timestamp
from imagegen.settings import Settings

log = logging.getLogger("imagegen.gpu")

GB = 1e9
MARGIN_BYTES = 1024**3
"""What a model needs in addition to its files if the catalog has no figure: half a gigabyte for CUDA, and the buffers
of a small picture. A large picture may need more; then the engine reports out_of_vram at the draw."""
IN_USE_SHARE = 0.05
"""If less than this share of the card is in use, other programs hold too little for a wait to help."""
LOW_SHARE = 0.1
"""If less than this share of the card is free, an allocation of another program may fail."""
GROWTH_BYTES = 256 * 1024**2
"""Growth of the other programs' memory since the engine became idle that counts as demand. A CUDA program holds this
much before it has any data."""
LOOK_EVERY_S = 2.0
GIVEN_BACK_S, GIVEN_BACK_EVERY_S = 2.0, 0.05
"""Time limit for the engine's memory to become free after its exit, and the interval between checks. The driver
reports it as free with a short delay."""
SLACK_BYTES = 64 * 1024**2
"""Smaller differences are the driver's own bookkeeping."""

Look = Callable[[int | None], Gpu | None]


def needed_bytes(entry: Entry, settings: Settings) -> int:
    """Bytes of the card that loading `entry` takes: the catalog's figure, else the files' sizes plus MARGIN_BYTES.

    If the engine can hold one part of the model at a time on the card, the largest part counts.
    """
    if entry.memory is not None and entry.memory.vram_bytes is not None:
        return entry.memory.vram_bytes
    part = compatibility.part_bytes(entry, settings)
    files = compatibility.files_bytes(entry, settings) if part is None else part
    return MARGIN_BYTES + files if files else 0


def shortage(card: Gpu, need_bytes: int) -> str | None:
    """Why a model that needs `need_bytes` has to wait for this card, as a sentence; None if it need not wait.

    A wait helps only if other programs hold the missing memory. A model that is too large for the card, or does not fit
    on an unused card, is refused by the engine.
    """
    if card.free_bytes is None:
        return None
    taken = card.total_bytes - card.free_bytes
    if card.free_bytes >= need_bytes or need_bytes > card.total_bytes or taken < IN_USE_SHARE * card.total_bytes:
        return None
    holders = "; ".join(_words(holder) for holder in card.others[:3]) or "a program that the driver does not name"
    return (
        f"Other programs hold the memory of the GPU ({card.name}): the model needs {need_bytes / GB:.1f} GB, and "
        f"{card.free_bytes / GB:.1f} of {card.total_bytes / GB:.1f} GB are free. In use by {holders}."
    )


def _busy(short: str) -> EngineError:
    return EngineError("gpu_busy", f"{short} End such a program, or try again later.")


def _words(holder: Holder) -> str:
    name = holder.name or "a program"
    held = "" if holder.held_bytes is None else f": {holder.held_bytes / GB:.1f} GB"
    since = "" if holder.since is None else f", running since {timestamp(holder.since)}"
    return f"{name} (process {holder.pid}){held}{since}"


class GpuContention:
    """Detects whether other programs want the card's memory while the engine is idle.

    An idle engine's memory does not grow, so any growth belongs to other programs. This also holds in a container,
    where the driver names no programs. The engine's own memory is subtracted if the driver reports it. A program whose
    allocation failed and that exited is not detected.
    """

    def __init__(self) -> None:
        self.least_taken_bytes: int | None = None  # by other programs, since the engine became idle
        self.wanted = False
        self._ours_told = False

    def forget(self) -> None:
        """Reset; called when the engine has worked or exited, because its memory has changed."""
        self.least_taken_bytes, self.wanted = None, False

    def look(self, card: Gpu) -> bool:
        """Update from a reading of the card; return whether other programs want memory. False if it is not known."""
        if card.free_bytes is None:
            return False
        if (told := card.ours_bytes is not None) is not self._ours_told:
            self.forget()  # earlier readings are not comparable: the engine's share was counted differently
            self._ours_told = told
        taken = card.total_bytes - card.free_bytes - (card.ours_bytes or 0)
        self.least_taken_bytes = taken if self.least_taken_bytes is None else min(taken, self.least_taken_bytes)
        low = card.free_bytes < LOW_SHARE * card.total_bytes
        self.wanted = low and (self.wanted or taken - self.least_taken_bytes >= GROWTH_BYTES)
        return self.wanted


class GpuSharing:
    """Shares the card with other programs; does nothing without a card or with an engine that uses none.

    look: `gpu.read`. binary: the engine that the next load will start, None if there is none.
    """

    def __init__(self, look: Look, settings: Settings, binary: Callable[[], Path | None]) -> None:
        self._look, self._settings, self._binary = look, settings, binary
        self.present = False  # there is a card, and the engine uses it
        self.contention = GpuContention()
        self._before: Gpu | None = None

    async def check_swap_fits(self, entry: Entry, engine_pid: int | None) -> None:
        """Check whether `entry` would fit after the idle engine `engine_pid` has been unloaded. Changes nothing.

        Raises EngineError `gpu_busy`. If the driver does not report the engine's memory, the check passes.
        """
        if not await asyncio.to_thread(self._has_card, entry):
            return
        need_bytes = await asyncio.to_thread(needed_bytes, entry, self._settings)
        card = await self._card(engine_pid)
        if card is None or card.free_bytes is None or (engine_pid is not None and card.ours_bytes is None):
            return
        card = replace(card, free_bytes=card.free_bytes + (card.ours_bytes or 0))
        if (short := shortage(card, need_bytes)) is not None:
            raise _busy(short)

    async def wait_for_memory(self, entry: Entry, told: Callable[[str], None], *, wait: bool) -> None:
        """Return when `entry` fits; while waiting, call `told` with a sentence that names the other programs.

        Raises EngineError `gpu_busy` after IMAGEGEN_GPU_WAIT_S, or at once if `wait` is false.
        """
        self.contention.forget()
        self._before = None
        self.present = await asyncio.to_thread(self._has_card, entry)
        if not self.present:
            return
        need_bytes = await asyncio.to_thread(needed_bytes, entry, self._settings)
        limit_s = self._settings.gpu_wait_s if wait else 0.0
        began = time.monotonic()
        while (card := await self._card()) is not None and (short := shortage(card, need_bytes)) is not None:
            if time.monotonic() - began >= limit_s:
                after = f" It did not change within {limit_s:g} s (IMAGEGEN_GPU_WAIT_S)." if wait else ""
                raise _busy(short + after)
            told(short)
            left_s = began + limit_s - time.monotonic()
            await asyncio.sleep(max(0.01, min(LOOK_EVERY_S, left_s)))
        self._before = card

    async def wanted(self, engine_pid: int | None) -> bool:
        """Whether other programs want the memory that the idle engine holds."""
        card = await self._card(engine_pid) if self.present else None
        return card is not None and self.contention.look(card)

    def reset_baseline(self) -> None:
        """Reset the detection; called when a job has ended, because its pictures may have changed the engine's
        memory."""
        self.contention.forget()

    async def check_memory_released(self) -> None:
        """Wait after the engine's exit until its memory is free; after GIVEN_BACK_S log a warning and return."""
        before, self._before = self._before, None
        self.contention.forget()
        if before is None or before.free_bytes is None:
            return
        deadline = time.monotonic() + GIVEN_BACK_S
        while (card := await self._card()) is not None and (kept := _not_given_back(before, card)) > 0:
            assert card.free_bytes is not None
            if time.monotonic() > deadline:
                log.warning(
                    "the engine has ended, and %.1f GB more of the GPU's memory are taken than before it was loaded "
                    "(%.1f GB free then, %.1f GB now, other programs counted out)",
                    kept / GB, before.free_bytes / GB, card.free_bytes / GB,
                )  # fmt: skip
                return
            await asyncio.sleep(GIVEN_BACK_EVERY_S)

    async def _card(self, engine_pid: int | None = None) -> Gpu | None:
        return await asyncio.to_thread(self._look, engine_pid)

    def _has_card(self, entry: Entry) -> bool:
        if entry.adapter == "glm":
            return torch_uses_cuda() and self._look(None) is not None
        binary = self._binary()
        return binary is not None and probe.backend_of(binary) != "cpu" and self._look(None) is not None


def _not_given_back(before: Gpu, now: Gpu) -> int:
    """Bytes in use now that were free before the load, without the growth of other programs; 0 if not known."""
    if before.free_bytes is None or now.free_bytes is None:
        return 0
    others_before = sum(holder.held_bytes or 0 for holder in before.others)
    others_now = sum(holder.held_bytes or 0 for holder in now.others)
    kept = before.free_bytes - now.free_bytes - max(0, others_now - others_before)
    return kept if kept > SLACK_BYTES else 0

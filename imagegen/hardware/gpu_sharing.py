"""Sharing a GPU with other programs: choose a memory mode, wait for free memory, release memory, verify the release."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from imagegen.engine_build import probe
from imagegen.engines.base import EngineError
from imagegen.hardware import ram
from imagegen.hardware.gpu import Gpu, Holder
from imagegen.hardware.memory_mode import GB, Fitting, MemoryMode, MemoryPlan, Misfit, Room
from imagegen.hardware.memory_needs import MemoryNeeds
from imagegen.hardware.memory_watch import PeakWatch
from imagegen.models.entry import Entry
from imagegen.models.packages import torch_uses_cuda
from imagegen.schemas import timestamp
from imagegen.settings import Settings

log = logging.getLogger("imagegen.gpu")

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


def shortage(card: Gpu, need_bytes: int) -> str | None:
    """Why a model that needs `need_bytes` has to wait for this card, as a sentence; None if it need not wait.

    A wait helps only if other programs hold the missing memory: not if the model is too large for the card, or does not
    fit on an unused card.
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


def choose(
    fitting: Fitting, card: Gpu, ram_bytes: int, at_least: MemoryMode | None = None
) -> MemoryPlan | Misfit | str:
    """How to load a model now, why it does not fit, or (a sentence) why it has to wait for other programs. Pure.

    at_least: the fastest mode to consider. If an estimate says that no mode fits, the tightest one is tried.
    """
    room = Room(card.name, card.total_bytes, card.usable_bytes, ram_bytes)
    plan = fitting.decide(room, at_least)
    if isinstance(plan, MemoryPlan):
        return (shortage(card, plan.need_bytes) if fitting.forced else None) or plan
    unused = fitting.decide(replace(room, free_bytes=card.total_bytes), at_least)
    if isinstance(unused, MemoryPlan):
        return shortage(card, unused.need_bytes if plan.short_of_ram else plan.need_bytes) or unused
    last = fitting.last_resort(room, at_least)
    return last if isinstance(last, MemoryPlan) else shortage(card, last.need_bytes) or last


def _busy(short: str) -> EngineError:
    return EngineError("gpu_busy", f"{short} End such a program, or try again later.")


def _lost(gone: str) -> EngineError:
    return EngineError("gpu_lost", f"{gone} Repair the GPU or its driver, then submit the job again.")


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
        self._ours_reported = False

    def forget(self) -> None:
        """Reset; called when the engine has worked or exited, because its memory has changed."""
        self.least_taken_bytes, self.wanted = None, False

    def look(self, card: Gpu) -> bool:
        """Update from a reading of the card; return whether other programs want memory. False if it is not known."""
        if card.free_bytes is None:
            return False
        if (reported := card.ours_bytes is not None) is not self._ours_reported:
            self.forget()  # earlier readings are not comparable: the engine's share was counted differently
            self._ours_reported = reported
        taken = card.total_bytes - card.free_bytes - (card.ours_bytes or 0)
        self.least_taken_bytes = taken if self.least_taken_bytes is None else min(taken, self.least_taken_bytes)
        low = card.free_bytes < LOW_SHARE * card.total_bytes
        self.wanted = low and (self.wanted or taken - self.least_taken_bytes >= GROWTH_BYTES)
        return self.wanted


class GpuSharing:
    """Shares the card with other programs; does nothing without a card or with an engine that uses none.

    look: `gpu.read`. problem: `gpu.problem`. binary: the engine that the next load will start, None if there is none.
    """

    def __init__(
        self,
        look: Look,
        settings: Settings,
        binary: Callable[[], Path | None],
        problem: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._look, self._settings, self._binary, self._problem = look, settings, binary, problem
        self.present = False  # there is a card, and the engine uses it
        self.seen = False  # there was a card since the service started
        self.contention = GpuContention()
        self.needs = MemoryNeeds()
        self.free_at_load: int | None = None  # bytes that were free before the last load
        self._before: Gpu | None = None

    async def check_swap_fits(self, fitting: Fitting, entry: Entry, engine_pid: int | None) -> None:
        """Check whether `entry` would fit after the idle engine `engine_pid` has been unloaded. Changes nothing.

        Raises EngineError `gpu_busy`, `job_too_large`. If the driver does not report the engine's memory, the check
        passes.
        """
        if not await asyncio.to_thread(self.has_card, entry):
            return
        card = await self._card(engine_pid)
        if card is None or card.free_bytes is None or (engine_pid is not None and card.ours_bytes is None):
            return
        card = replace(card, free_bytes=card.free_bytes + (card.ours_bytes or 0))
        choice = choose(fitting, card, ram.read().available_bytes)
        if isinstance(choice, Misfit):
            raise EngineError("job_too_large", choice.why)
        if isinstance(choice, str):
            raise _busy(choice)

    async def wait_for_memory(
        self,
        fitting: Fitting,
        entry: Entry,
        on_wait: Callable[[str], None],
        *,
        wait: bool,
        at_least: MemoryMode | None = None,
    ) -> MemoryPlan | None:
        """Return how to load `entry` as soon as it fits; None without a card.

        While waiting, call `on_wait` with a sentence that names the other programs, or says that the GPU is gone.
        Raises EngineError `gpu_busy` or `gpu_lost` after IMAGEGEN_GPU_WAIT_S, or at once if `wait` is false, and
        `job_too_large` if no mode fits.
        """
        self.contention.forget()
        self._before, self.free_at_load = None, None
        self.present = await asyncio.to_thread(self.has_card, entry)
        if not self.present and not await asyncio.to_thread(self._is_lost, entry):
            return None
        limit_s = self._settings.gpu_wait_s if wait else 0.0
        began = time.monotonic()
        while True:
            card = await self._card()
            ram_bytes = ram.read().available_bytes
            choice = self._gone() if card is None else choose(fitting, card, ram_bytes, at_least)
            if isinstance(choice, MemoryPlan):
                break
            if isinstance(choice, Misfit):
                raise EngineError("job_too_large", choice.why)
            if time.monotonic() - began >= limit_s:
                after = f" It did not change within {limit_s:g} s (IMAGEGEN_GPU_WAIT_S)." if wait else ""
                raise _lost(choice + after) if card is None else _busy(choice + after)
            on_wait(choice)
            left_s = began + limit_s - time.monotonic()
            await asyncio.sleep(max(0.01, min(LOOK_EVERY_S, left_s)))
        self.present, self._before, self.free_at_load = True, card, card.usable_bytes if card else None
        return choice

    async def tighter_plan(self, fitting: Fitting, loaded: MemoryPlan, engine_pid: int | None) -> MemoryMode | None:
        """The tighter mode that the next picture needs; None if the engine, loaded by `loaded`, can draw it."""
        card = await self._card(engine_pid)
        if card is None or (tighter := fitting.tighter(loaded.mode)) is None:
            return None
        ours = card.ours_bytes
        free = max(card.usable_bytes, self.free_at_load or 0) if ours is None else card.usable_bytes + ours
        card = replace(card, free_bytes=min(free, card.total_bytes))
        if fitting.need_bytes(loaded.mode) <= card.usable_bytes:
            return None
        plan = choose(fitting, card, ram.read().available_bytes, tighter)
        return plan.mode if isinstance(plan, MemoryPlan) else None

    async def free_since_load(self) -> int | None:
        """The least bytes that were free before the last load and now. Call it when the engine has ended."""
        card = await self._card()
        known = [self.free_at_load, None if card is None else card.usable_bytes]
        return min((one for one in known if one is not None), default=None)

    def watch(self, engine_pid: int | None) -> PeakWatch:
        """Measure what the engine takes while it draws."""
        return PeakWatch(self._look if self.present else None, self._before, engine_pid)

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
        while (card := await self._card()) is not None:
            kept = card.taken_since(before)
            if kept is None or kept <= SLACK_BYTES:
                return
            if time.monotonic() > deadline:
                log.warning(
                    "the engine has ended, and %.1f GB more of the GPU's memory are taken than before it was loaded "
                    "(%.1f GB free then, %.1f GB now, other programs counted out)",
                    kept / GB, before.free_bytes / GB, card.usable_bytes / GB,
                )  # fmt: skip
                return
            await asyncio.sleep(GIVEN_BACK_EVERY_S)

    async def _card(self, engine_pid: int | None = None) -> Gpu | None:
        return await asyncio.to_thread(self._look, engine_pid)

    def read_card(self, entry: Entry) -> Gpu | None:
        """The card that the engine of `entry` uses. Blocks: it queries the driver."""
        return self._look(None) if self.has_card(entry) else None

    def _gone(self) -> str:
        return self._problem() or "The driver no longer reports the GPU: see `nvidia-smi`, or `vulkaninfo --summary`."

    def _is_lost(self, entry: Entry) -> bool:
        """Whether the card that the engine of `entry` used has disappeared."""
        return self.seen and self._look(None) is None and engine_uses_gpu(entry, self._binary())

    def has_card(self, entry: Entry) -> bool:
        """Whether there is a card that the engine of `entry` uses. Blocks: it queries the driver."""
        if self._look(None) is None:
            return False
        self.seen = True
        return engine_uses_gpu(entry, self._binary())


def engine_uses_gpu(entry: Entry, binary: Path | None) -> bool:
    """Whether the engine of `entry` is built for a GPU. binary: sd-server, None if there is none."""
    if entry.adapter == "glm":
        return torch_uses_cuda()
    return binary is not None and probe.backend_of(binary) != "cpu"

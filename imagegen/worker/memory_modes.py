"""MemoryModes: what follows when an engine ran out of memory, and what its pictures take. Only the worker calls it."""

from __future__ import annotations

import asyncio
import logging

from imagegen.engines.base import EngineError
from imagegen.hardware.gpu_sharing import GROWTH_BYTES
from imagegen.hardware.memory_mode import GB, MemoryMode, MemoryPlan, Shape
from imagegen.hardware.memory_needs import CPU, MemoryNeed
from imagegen.hardware.needs_table import NeedsTable
from imagegen.models.entry import Entry
from imagegen.schemas import Warn
from imagegen.worker.provider import EngineProvider

log = logging.getLogger("imagegen.engine")

MOST_TRIES = len(MemoryMode) + 1
"""Loads of a model for one picture: one in each mode, and one more because another program took the memory."""


class MemoryModes:
    """Chooses the next memory mode, and stores measurements."""

    def __init__(self, provider: EngineProvider, needs: NeedsTable) -> None:
        self._provider, self._needs = provider, needs

    async def after_shortage(
        self, entry: Entry, shape: Shape, plan: MemoryPlan | None, error: EngineError, *, tries: int
    ) -> MemoryMode:
        """The mode to continue in, or a tighter one, after `error` in the mode of `plan`. The engine has ended.

        Notes that the memory was too little. tries: loads for this picture so far.
        Raises `error` if it is not a lack of memory, else an EngineError that says what to do when no mode is left.
        """
        if error.code == "job_too_large":
            raise EngineError(error.code, f"{error.detail} {await self._advice(entry, shape)}")
        if error.code != "out_of_vram" or plan is None:
            raise error
        sharing = self._provider.gpu_sharing
        available, had = await sharing.free_since_load(), sharing.free_at_load
        if available is not None:
            key = self._provider.memory_key(entry, shape.kind, plan.mode)
            await self._needs.learn(MemoryNeed(key, shape.pixels_in_all, available, failed=True))
        taken_by_others = available is not None and had is not None and had - available >= GROWTH_BYTES
        fitting = await asyncio.to_thread(self._provider.fitting, entry, shape)
        following = plan.mode if taken_by_others else fitting.tighter(plan.mode)
        if following is None or tries >= MOST_TRIES:
            forced = f" IMAGEGEN_MEMORY_MODE={plan.mode} allows no other mode." if fitting.forced else ""
            raise EngineError(error.code, f"{error.detail}{forced} {await self._advice(entry, shape)}")
        log.warning("out of memory mode=%s model=%s next=%s", plan.mode, entry.name, following)
        return following

    async def tighter_for(
        self, entry: Entry, shape: Shape, plan: MemoryPlan | None, pid: int | None
    ) -> MemoryMode | None:
        """The tighter mode that a picture of `shape` needs; None if the loaded engine can draw it."""
        if plan is None:
            return None
        fitting = await asyncio.to_thread(self._provider.fitting, entry, shape)
        return await self._provider.gpu_sharing.tighter_plan(fitting, plan, pid)

    async def learn(self, entry: Entry, shape: Shape, plan: MemoryPlan | None, peak_bytes: int) -> None:
        """Store what a picture took of the card, or of RAM without one."""
        key = self._provider.memory_key(entry, shape.kind, CPU if plan is None else plan.mode)
        await self._needs.learn(MemoryNeed(key, shape.pixels_in_all, peak_bytes))

    async def _advice(self, entry: Entry, shape: Shape) -> str:
        return await asyncio.to_thread(self._provider.advice, entry, shape)


def tried_again(doing: str, before: MemoryPlan | None, now: MemoryPlan | None) -> Warn:
    """`memory_mode`: the memory ran out while `doing`, and the job continued."""
    was = "" if before is None else f" {before.mode.words}"
    if before is None or now is None or before.mode is now.mode:
        return Warn(code="memory_mode", detail=f"The GPU's memory ran out while {doing}{was}; it was done again.")
    return Warn(
        code="memory_mode",
        detail=f"The GPU's memory ran out while {doing}{was}. It was done again {now.mode.words} "
        f"(about {now.need_bytes / GB:.1f} GB), which is slower.",
    )

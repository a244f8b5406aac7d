"""The most that an engine takes of a card while it draws, from what the driver reports."""

from __future__ import annotations

import asyncio
import os

import pytest
from nvml_stand_in import GB, Card, StandIn

from imagegen.hardware import memory_watch
from imagegen.hardware.gpu import Gpu, Nvml
from imagegen.hardware.memory_watch import PeakWatch

ENGINE, OTHER = 4242, 7


def reading(engine_gb: int, other_gb: int, named: bool) -> Gpu:
    """What the driver reports of a card of 24 GB; `named`: it names the engine."""
    holders = [(OTHER, other_gb * GB), *([(ENGINE, engine_gb * GB)] if named and engine_gb else [])]
    card = Nvml(StandIn(Card(free_bytes=(24 - engine_gb - other_gb) * GB, holders=holders)), {}).look(ENGINE)
    assert card is not None
    return card


@pytest.mark.parametrize("named", [True, False], ids=["the driver names us", "a container"])
def test_the_peak_is_the_engines_own_and_not_of_other_programs(monkeypatch: pytest.MonkeyPatch, named: bool) -> None:
    monkeypatch.setattr(memory_watch, "EVERY_S", 0.0)
    left = [reading(*state, named) for state in ((6, 4), (9, 5), (7, 4))]

    async def draw() -> int | None:
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def look(_pid: int | None) -> Gpu:
            if len(left) > 1:
                return left.pop(0)
            loop.call_soon_threadsafe(done.set)
            return left[0]

        async with PeakWatch(look, reading(0, 4, named), ENGINE) as watch:
            await done.wait()
        return watch.peak_bytes

    assert asyncio.run(draw()) == 9 * GB


def test_without_a_card_it_is_the_processs_highest_resident_size() -> None:
    async def measure(pid: int) -> int | None:
        async with PeakWatch(None, None, pid) as watch:
            pass
        return watch.peak_bytes

    own = asyncio.run(measure(os.getpid()))
    assert own is not None and own > 10**6
    assert asyncio.run(measure(2**30)) is None, "no such process"

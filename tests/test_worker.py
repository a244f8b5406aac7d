"""The worker's loop in process: what it does about an error of its own."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from served import until
from state_folder import opened, scenario

from imagegen.attendant import Timing
from imagegen.idle_memory import IdleMemory
from imagegen.inbox import Order
from imagegen.models.entry import Entry
from imagegen.pace import Pace
from imagegen.recorder import Recorder
from imagegen.schemas import EngineState, Refused, Status
from imagegen.worker import Worker


def find_model(name: str) -> Entry:
    if name == "poison":
        raise ZeroDivisionError("an error that nobody thought of")
    raise Refused(422, "unknown_model", f"There is no model {name!r}.")


@scenario
async def test_an_error_of_its_own_costs_the_job_and_not_the_loop(folder: Path) -> None:
    async with opened(folder) as state:
        never: Any = None  # parts that a job whose model is not found does not reach
        idle = IdleMemory("auto", min_s=0, max_s=60, knob=1, available_bytes=lambda: 0)
        parts: Any = SimpleNamespace(find_model=find_model, fingerprint=lambda _entry: None)
        timing = Timing(60.0, None, 1.0)
        worker = Worker(state.jobs, never, Pace(), idle, timing, parts, never, Recorder())
        state.jobs.on_submit = worker.inbox.ring
        running = asyncio.create_task(worker.run())

        poison = await state.submit(model="poison")
        after = await state.submit(model="gone")
        await asyncio.to_thread(until, lambda: not state.jobs.active(), "both end", 20.0)
        first, second = await state.jobs.get(poison.id), await state.jobs.get(after.id)
        assert (first.status, first.error.code) == (Status.FAILED, "gave_up")
        assert "its log says more" in first.error.detail
        assert (second.status, second.error.code) == (Status.FAILED, "model_missing")
        assert worker.view().state is EngineState.COLD
        order = worker.inbox.order(Order("unload"))
        await asyncio.wait_for(order.done, 20.0)
        worker.stop()
        await asyncio.wait_for(running, 20.0)

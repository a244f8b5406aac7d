"""The worker's loop in process: what it does about an internal error."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from served import until
from state_folder import opened, scenario

from imagegen.engines.base import EngineError
from imagegen.idle.tracker import IdleTracker
from imagegen.jobs.durations import Durations
from imagegen.jobs.manager import MAX_STARTS
from imagegen.models.entry import Entry
from imagegen.schemas import EngineState, Refused, Status
from imagegen.telemetry.recorder import Recorder
from imagegen.worker import loop as worker_module
from imagegen.worker.commands import Command
from imagegen.worker.loop import Worker
from imagegen.worker.watchdog import Timing


def find_model(name: str) -> Entry:
    if name == "poison":
        raise ZeroDivisionError("an error that nobody thought of")
    raise Refused(422, "unknown_model", f"There is no model {name!r}.")


@scenario
async def test_an_error_of_its_own_costs_the_job_and_not_the_loop(folder: Path) -> None:
    async with opened(folder) as state:
        never: Any = None  # parts that a job whose model is not found does not reach
        idle = IdleTracker("auto", min_s=0, max_s=60, knob=1, available_bytes=lambda: 0)
        parts: Any = SimpleNamespace(find_model=find_model, fingerprint=lambda _entry: None)
        timing = Timing(60.0, None, 1.0)
        worker = Worker(state.jobs, never, Durations(), idle, timing, parts, forgetful, forgetful, Recorder())
        running = asyncio.create_task(worker.run())

        poison = await state.submit(model="poison")
        after = await state.submit(model="gone")
        await asyncio.to_thread(until, lambda: not state.jobs.active(), "both end", 20.0)
        first, second = await state.jobs.get(poison.id), await state.jobs.get(after.id)
        assert (first.status, first.error.code) == (Status.FAILED, "gave_up")
        assert "See the service log" in first.error.detail
        assert (second.status, second.error.code) == (Status.FAILED, "model_missing")
        assert worker.view().state is EngineState.COLD
        order = worker.commands.order(Command("unload"))
        await asyncio.wait_for(order.done, 20.0)
        worker.stop()
        await asyncio.wait_for(running, 20.0)


def no_descriptor() -> OSError:
    return OSError(errno.EMFILE, "Too many open files")


def engine_not_started() -> EngineError:
    error = EngineError("load_failed", "The engine cannot be started: Too many open files.")
    error.__cause__ = no_descriptor()
    return error


@scenario
async def test_a_job_waits_in_the_queue_while_no_descriptor_is_free(folder: Path) -> None:
    await stays_queued(folder, no_descriptor)


@scenario
async def test_a_job_waits_in_the_queue_while_no_engine_can_be_started(folder: Path) -> None:
    await stays_queued(folder, engine_not_started)


async def stays_queued(folder: Path, failure: Callable[[], Exception]) -> None:
    tries = 0

    async def prepare(_entry: Entry, _told: Any) -> None:
        nonlocal tries
        tries += 1
        raise failure() if tries <= MAX_STARTS + 2 else EngineError("model_missing", "The test ends here.")

    async with opened(folder) as state:
        never: Any = None
        idle = IdleTracker("auto", min_s=0, max_s=60, knob=1, available_bytes=lambda: 0)
        parts: Any = SimpleNamespace(
            find_model=lambda name: SimpleNamespace(name=name), fingerprint=lambda _entry: None, prepare=prepare
        )
        worker = Worker(
            state.jobs, never, Durations(), idle, Timing(60.0, None, 1.0), parts, forgetful, forgetful, Recorder()
        )
        running = asyncio.create_task(worker.run())

        job = await state.submit(model="short")
        await asyncio.to_thread(until, lambda: not state.jobs.active(), "it ends", 20.0)
        ended = await state.jobs.get(job.id)
        assert (ended.status, ended.error.code) == (Status.FAILED, "model_missing"), "for a reason that is no shortage"
        assert (tries, ended.attempts) == (MAX_STARTS + 3, 1), "a start without descriptors does not count"
        worker.stop()
        await asyncio.wait_for(running, 20.0)


async def kept(_measurements: Any) -> None: ...


forgetful: Any = SimpleNamespace(learn=kept)


@pytest.fixture(autouse=True)
def short_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "LOOK_AGAIN_S", 0.05)

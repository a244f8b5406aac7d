"""The watchdog's verdicts on a running picture; the picture is a future without an engine."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from imagegen.engines.base import INTERRUPTED, EngineError
from imagegen.jobs.durations import Durations, Measurement
from imagegen.schemas import Job, Kind, Params, Policy, Status
from imagegen.worker.commands import CommandQueue
from imagegen.worker.job_run import JobRun
from imagegen.worker.lifecycle import Cancelled, Stopped
from imagegen.worker.watchdog import Drain, Kill, Timing, Watchdog

PIXELS = 64 * 64
JOB = Job(
    id="a" * 32, seq=1, revision=1, kind=Kind.GENERATE, status=Status.RUNNING, model="tiny", prompt="a red circle",
    params=Params(width=64, height=64, steps=100, cfg_scale=1.0, sampler="euler", seed=1),
    policy=Policy(negative="inert"), created_at=1.0,
)  # fmt: skip
LONG_PICTURE = (("step", PIXELS, 10.0), ("load", 0, 1.0))
LONG_LOAD = (("step", PIXELS, 0.001), ("load", 0, 1000.0))


@dataclass
class Case:
    """What is so when the watchdog looks, and what it says then: the verdict, and the error's code."""

    verdict: type
    reason: str = ""
    error: type[Exception] = Cancelled
    code: str | None = None
    active: bool = True
    interrupts: bool = False
    measured: tuple[tuple[Any, int, float], ...] = ()
    began_s_ago: float = 0.0
    silent_s: float = 0.0
    stopped: bool = False
    timing: Timing = field(default_factory=lambda: Timing(max_job_s=600.0, stall_s=60.0, shutdown_grace_s=0.0))


CASES = {
    "cancelled, and the engine is interrupted": Case(Drain, active=False, interrupts=True),
    "cancelled, and a reload is sooner": Case(Kill, "a running job was cancelled", active=False, measured=LONG_PICTURE),
    "cancelled, and the picture's end is sooner": Case(Drain, active=False, measured=LONG_LOAD),
    "cancelled, and nothing is known": Case(Drain, active=False),
    "the grace is over": Case(Kill, "the service stops", Stopped, stopped=True),
    "the job takes too long": Case(Kill, "a job took too long", EngineError, "gave_up", began_s_ago=601.0),
    "the engine is silent": Case(Kill, "it hangs", EngineError, "engine_hung", silent_s=61.0),
}


def watched(case: Case) -> tuple[Watchdog, Any, JobRun]:
    """The watchdog, an adapter and a run, as the case has them."""
    commands = CommandQueue()
    if case.stopped:
        commands.stop(case.timing.shutdown_grace_s)
    jobs: Any = SimpleNamespace(is_active=lambda _id: case.active)
    prefetcher: Any = SimpleNamespace(look=lambda _model: None)
    durations = Durations(Measurement("tiny", what, pixels, seconds) for what, pixels, seconds in case.measured)
    now = time.monotonic()
    adapter: Any = SimpleNamespace(interrupt=lambda: case.interrupts, last_line_at=now - case.silent_s)
    report: Any = SimpleNamespace(latest=None)
    run = JobRun(JOB, report, began=now - case.began_s_ago)
    commands.ring()
    return Watchdog(jobs, commands, prefetcher, durations, case.timing), adapter, run


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_a_picture_that_must_not_go_on_is_judged(case: Case) -> None:
    async def scenario() -> None:
        watchdog, adapter, run = watched(case)
        drawing = asyncio.ensure_future(asyncio.Event().wait())
        verdict: Any = await watchdog.attend(drawing, adapter, run)  # type: ignore[arg-type]
        assert not drawing.done(), "it is the loop that acts"
        drawing.cancel()
        assert type(verdict) is case.verdict
        if isinstance(verdict, Kill):
            assert (verdict.reason, type(verdict.error)) == (case.reason, case.error)
            assert getattr(verdict.error, "code", None) == case.code
        else:
            assert (verdict.obeys_until is not None) is case.interrupts

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (None, None),
        (EngineError(INTERRUPTED, "It was interrupted."), None),
        (EngineError("engine_died", "It died."), "it died of a cancelled picture"),
    ],
    ids=["it is drawn", "it is interrupted", "the engine dies"],
)
def test_a_cancelled_picture_runs_out(failure: EngineError | None, reason: str | None) -> None:
    async def draw() -> bytes:
        await asyncio.sleep(0)
        if failure is not None:
            raise failure
        return b"a picture"

    async def scenario() -> None:
        watchdog, adapter, run = watched(Case(Drain, active=False))
        verdict = await watchdog.drain(asyncio.ensure_future(draw()), adapter, run, Drain())
        assert (None if verdict is None else verdict.reason) == reason
        assert watchdog.draining_s() is None

    asyncio.run(scenario())


def test_an_engine_that_does_not_obey_is_ended_where_that_is_sooner() -> None:
    async def scenario() -> None:
        watchdog, adapter, run = watched(Case(Kill, active=False, measured=LONG_PICTURE))
        drawing = asyncio.ensure_future(asyncio.Event().wait())
        verdict = await watchdog.drain(drawing, adapter, run, Drain(obeys_until=time.monotonic()))  # type: ignore[arg-type]
        assert verdict is not None and verdict.reason == "a running job was cancelled"
        drawing.cancel()

    asyncio.run(scenario())

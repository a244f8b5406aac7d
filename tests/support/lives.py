"""Helpers for tests of the engines' lifecycle. Each test runs a scenario on one event loop and leaves no process."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine
from time import monotonic, sleep
from typing import Any

import psutil
import pytest

from imagegen.engines.base import DrawProgress, DrawRequest, EngineError, LoadProgress
from imagegen.engines.http_process import HttpSubprocessAdapter

Make = Callable[..., HttpSubprocessAdapter]
Ask = Callable[..., DrawRequest]

DEADLINE_S = 600

both_engines = pytest.mark.parametrize("engine_name", ["sdcpp", "glm"], indirect=True)
"""For tests of every adapter. The second engine starts slowly, so tests of the base class use one engine."""


def run(scenario: Coroutine[Any, Any, None]) -> None:
    """Run a scenario for at most DEADLINE_S, and check that it leaves no process."""

    async def limited() -> None:
        await asyncio.wait_for(scenario, DEADLINE_S)

    before = set(psutil.Process().children(recursive=True))
    asyncio.run(limited())
    assert set(psutil.Process().children(recursive=True)) <= before


def nobody(_: object) -> None:
    """A progress listener that does nothing."""


async def failure(work: Awaitable[object]) -> EngineError:
    with pytest.raises(EngineError) as raised:
        await work
    assert not re.search(r"(^|[\s'\"])/\w", raised.value.detail), "a path of the host in an error message"
    return raised.value


def wait_stopped(pid: int) -> None:
    until = monotonic() + DEADLINE_S
    while psutil.Process(pid).status() != psutil.STATUS_STOPPED:
        assert monotonic() < until
        sleep(0.01)


class Changes:
    """A progress listener with events to wait for."""

    def __init__(self) -> None:
        self.loading, self.sampling = asyncio.Event(), asyncio.Event()

    def __call__(self, progress: DrawProgress | LoadProgress) -> None:
        if isinstance(progress, LoadProgress):
            self.loading.set()
        elif progress.step:
            self.sampling.set()


async def drawing(adapter: HttpSubprocessAdapter, request: DrawRequest) -> asyncio.Task[bytes]:
    """Start a picture. Returns its task once the first step is done."""
    heard = Changes()
    task = asyncio.create_task(adapter.generate(request, heard))
    await heard.sampling.wait()
    return task

"""How an engine's process ends, and its picture with it. Real engines, tiny models."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from lives import Ask, Make, both_engines, drawing, failure, nobody, run, wait_stopped

from imagegen.engines.base import INTERRUPTED, DrawProgress, EngineError
from imagegen.schemas import Phase

Gone = Callable[[int], bool]

LONG: dict[str, dict[str, Any]] = {"sdcpp": {"steps": 100}, "glm": {"width": 512, "height": 512, "steps": 100}}
"""A picture that is not over by the time it is to be hit."""


@both_engines
def test_a_death_while_drawing_is_noticed_and_named(engine_name: str, make_adapter: Make, ask: Ask) -> None:
    async def scenario() -> None:
        adapter = make_adapter()
        await adapter.start(nobody)
        picture = await drawing(adapter, ask(**LONG[engine_name]))
        died = asyncio.create_task(adapter.wait_died())
        assert not died.done()
        os.kill(adapter.pid or 0, signal.SIGKILL)
        error = await failure(picture)
        assert error.code == "engine_died" and "SIGKILL" in error.detail
        assert "red cube" not in error.detail
        await died
        assert adapter.pid is None
        await adapter.start(nobody)  # without a stop in between
        assert adapter.pid is not None
        await adapter.stop()

    run(scenario())


@both_engines
def test_memory_that_runs_out_is_named(engine_name: str, make_adapter: Make, ask: Ask) -> None:
    spare_mib, side = (8, 1024) if engine_name == "glm" else (64, 512)  # GLM's tiny VAE is much the smaller one

    async def scenario() -> None:
        adapter = make_adapter()
        await adapter.start(nobody)
        assert await adapter.generate(ask(), nobody)  # its threads are there
        process = psutil.Process(adapter.pid)
        process.rlimit(psutil.RLIMIT_AS, (process.memory_info().vms + spare_mib * 1024**2,) * 2)
        error = await failure(adapter.generate(ask(width=side, height=side), nobody))
        assert error.code == "out_of_vram", error.detail
        await adapter.stop()

    run(scenario())


@both_engines
def test_a_stop_ends_a_silent_engine_even_if_the_stop_is_cancelled(
    engine_name: str, make_adapter: Make, ask: Ask
) -> None:
    async def scenario() -> None:
        adapter = make_adapter()
        await adapter.start(nobody)
        picture = await drawing(adapter, ask(**LONG[engine_name]))
        pid = adapter.pid or 0
        os.kill(pid, signal.SIGSTOP)
        wait_stopped(pid)
        await asyncio.wait([picture], timeout=0.2)  # what it said before is read
        last = adapter.last_line_at
        done, _ = await asyncio.wait([picture], timeout=0.5)
        assert not done and adapter.last_line_at == last  # silent, and no verdict of the adapter's own
        stop = asyncio.create_task(adapter.stop())
        await asyncio.sleep(0)
        stop.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stop
        await adapter.wait_died()
        assert not psutil.pid_exists(pid)
        assert (await failure(picture)).code == "engine_died"
        await adapter.stop()
        assert adapter.pid is None

    run(scenario())


@both_engines
def test_an_abandoned_picture_is_over_before_the_next_begins(engine_name: str, make_adapter: Make, ask: Ask) -> None:
    async def scenario() -> None:
        adapter = make_adapter()
        await adapter.start(nobody)
        expected = await adapter.generate(ask(seed=5), nobody)
        abandoned = await drawing(adapter, ask(**LONG[engine_name]))
        abandoned.cancel()
        with pytest.raises(asyncio.CancelledError):
            await abandoned
        left_behind = adapter._drawing
        assert left_behind is not None and not left_behind.done()
        seen: list[DrawProgress] = []

        def on_next(progress: DrawProgress) -> None:
            assert left_behind.done()
            seen.append(progress)

        assert await adapter.generate(ask(seed=5), on_next) == expected
        assert [p.step for p in seen if p.phase is Phase.SAMPLING and p.step] == [1, 2], "none of the other's"
        failed = left_behind.exception()
        assert isinstance(failed, EngineError) and failed.code == INTERRUPTED
        await adapter.stop()

    run(scenario())


OWNER = """
import asyncio, sys
from pathlib import Path
from imagegen.engines.glm.adapter import GlmImageAdapter
from imagegen.engines.sdcpp.adapter import SdcppServerAdapter

async def main():
    what, work, first, *words = sys.argv[1:]
    if what == "glm":
        adapter = GlmImageAdapter(Path(first), 1, Path(work))
    else:
        adapter = SdcppServerAdapter(Path(first), words, 1, Path(work), 60, channel=True)
    await adapter.start(lambda _: None)
    print(adapter.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@both_engines
def test_the_engine_does_not_outlive_its_service(
    engine_name: str, request: pytest.FixtureRequest, tmp_path: Path, gone: Gone
) -> None:
    if engine_name == "glm":
        words = [str(request.getfixturevalue("glm_models_dir") / "glm-tiny")]
    else:
        words = [str(request.getfixturevalue("sd_server")), *request.getfixturevalue("tiny_argv")]
    command = [sys.executable, "-c", OWNER, engine_name, str(tmp_path), *words]
    owner = subprocess.Popen(command, stdout=subprocess.PIPE)
    with owner:
        try:
            assert owner.stdout is not None
            engine_pid = int(owner.stdout.readline())
            assert psutil.pid_exists(engine_pid)
        finally:
            owner.kill()
    assert gone(engine_pid)

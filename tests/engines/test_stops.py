"""Stops and previews over the channel: what the real engine does, and that no later picture is another one for it."""

from __future__ import annotations

import asyncio
import io
import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from lives import Ask, Make, drawing, failure, nobody, run
from loras import pair, safetensors
from PIL import Image
from served import Require

from imagegen.engines.base import (
    INTERRUPTED,
    DrawProgress,
    DrawRequest,
    EngineError,
    LoraUse,
    Preview,
    PreviewMode,
    PreviewPlan,
)
from imagegen.engines.http_process import HttpSubprocessAdapter
from imagegen.schemas import Phase

STEPS, SIDE_PX = 8, 32
MOST_GROWTH = 1.05  # of the resident memory, from the first stops to the last


@pytest.fixture(autouse=True)
def with_channel(require: Require, has_channel: bool) -> None:
    require("an sd-server with the channel", has_channel)


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    file = tmp_path / "some.safetensors"
    file.write_bytes(safetensors(pair()))
    return file


@pytest.fixture
def kinds(ask: Ask, png_of: Callable[..., bytes], lora: Path) -> dict[str, DrawRequest]:
    """A picture of each kind that the engine draws in another way."""
    mask = Image.new("L", (SIDE_PX, SIDE_PX), 0)
    mask.paste(255, (SIDE_PX // 2, 0, SIDE_PX, SIDE_PX))
    file = io.BytesIO()
    mask.save(file, "PNG")
    red = (png_of((255, 0, 0), (SIDE_PX, SIDE_PX)),)
    changes: dict[str, dict[str, Any]] = {
        "plain": {},
        "cfg above 1": {"cfg_scale": 3.0, "negative": "blue"},
        "edit": {"references": red},
        "mask": {"references": red, "mask": file.getvalue()},
        "easycache": {"options": {"cache_mode": "easycache", "cache_option": "threshold=2"}},
        "block cache": {"options": {"cache_mode": "dbcache", "cache_option": "threshold=0.3"}},
        "spectrum": {"options": {"cache_mode": "spectrum", "cache_option": "warmup=2,window=2"}},
        "LoRA": {"loras": (LoraUse(lora),)},
        "previews": {"preview": PreviewPlan(PreviewMode.PROJECTION)},
    }
    return {name: ask(steps=STEPS, width=SIDE_PX, height=SIDE_PX, **change) for name, change in changes.items()}


async def stopped_at(adapter: HttpSubprocessAdapter, request: DrawRequest, moment: int) -> bool:
    """Draw, and order a stop at `moment`: 0 at once, a step, or STEPS, while it decodes. Whether it was stopped."""

    def hear(progress: DrawProgress) -> None:
        done = STEPS if progress.phase is Phase.DECODING else progress.step or 0
        if done >= moment:
            assert adapter.interrupt()

    try:
        await adapter.generate(request, hear)
    except EngineError as error:
        assert error.code == INTERRUPTED, error.detail
        return True
    return False


@pytest.mark.parametrize(
    ("stops", "flags"),
    [
        (10, []),  # each kind once
        pytest.param(200, [], marks=pytest.mark.long),
        pytest.param(200, ["--offload-to-cpu"], marks=pytest.mark.long),
    ],
    ids=["10", "200", "200 offloaded"],
)
def test_stops_at_random_moments_change_no_later_picture(
    make_adapter: Make, tiny_argv: list[str], kinds: dict[str, DrawRequest], lora: Path, stops: int, flags: list[str]
) -> None:
    chance = random.Random(21)

    async def scenario() -> None:
        adapter = make_adapter(model_argv=[*tiny_argv, *flags], loras=[lora])
        await adapter.start(nobody)
        before = {name: await adapter.generate(request, nobody) for name, request in kinds.items()}
        pid, memory, stopped = adapter.pid, [], 0
        names = list(kinds)
        for number in range(stops):
            stopped += await stopped_at(adapter, kinds[names[number % len(names)]], chance.randrange(STEPS + 1))
            memory.append(psutil.Process(pid).memory_info().rss)
        assert stopped, "every stop came after the end of its picture"
        assert adapter.pid == pid
        after = {name: await adapter.generate(request, nobody) for name, request in kinds.items()}
        assert [name for name in names if after[name] != before[name]] == []
        if stops > 2 * len(names):
            assert memory[-1] <= memory[2 * len(names)] * MOST_GROWTH, memory
        await adapter.stop()

    run(scenario())


def test_a_stop_is_for_its_own_picture_whenever_it_comes(make_adapter: Make, ask: Ask) -> None:
    async def scenario() -> None:
        adapter = make_adapter()
        await adapter.start(nobody)
        assert not adapter.interrupt(), "nothing is drawn"
        expected = await adapter.generate(ask(), nobody)
        assert not adapter.interrupt(), "it is over"
        assert await adapter.generate(ask(), nobody) == expected

        heard: list[DrawProgress] = []
        early = asyncio.create_task(adapter.generate(ask(steps=100), heard.append))
        await asyncio.sleep(0)  # its order is not even sent
        assert adapter.interrupt()
        assert (await failure(early)).code == INTERRUPTED
        assert [progress for progress in heard if progress.step] == []

        twice = await drawing(adapter, ask(steps=100))
        assert adapter.interrupt() and adapter.interrupt()
        assert (await failure(twice)).code == INTERRUPTED
        assert await adapter.generate(ask(), nobody) == expected
        await adapter.stop()
        assert not adapter.interrupt(), "there is no engine"

    run(scenario())


# Previews


class Shown:
    """The engine, as plain calls that remember the previews."""

    def __init__(self, loop: asyncio.Runner, engine: HttpSubprocessAdapter, ask: Ask) -> None:
        self._loop, self._engine, self._ask = loop, engine, ask

    def __call__(self, plan: PreviewPlan | None, **changes: object) -> tuple[bytes, list[Preview]]:
        previews: list[Preview] = []
        request = self._ask(preview=plan, **changes)
        return self._loop.run(self._engine.generate(request, nobody, previews.append)), previews


@pytest.fixture
def shown(loop: asyncio.Runner, engine: HttpSubprocessAdapter, ask: Ask) -> Iterator[Shown]:
    yield Shown(loop, engine, ask)


@pytest.mark.parametrize(
    ("plan", "steps", "sizes"),
    [
        (None, [], set()),
        (PreviewPlan(PreviewMode.PROJECTION), [1, 2, 3, 4, 5], {(8, 8)}),  # one pixel a latent
        (PreviewPlan(PreviewMode.PROJECTION, 2), [2, 4], {(8, 8)}),
        (PreviewPlan(PreviewMode.TAE, 3), [3], {(64, 64)}),
        (PreviewPlan(PreviewMode.VAE, 4), [4], {(64, 64)}),
        (PreviewPlan(PreviewMode.PROJECTION, 100), [], set()),
    ],
)
def test_previews_come_as_planned(
    shown: Shown, plan: PreviewPlan | None, steps: list[int], sizes: set[tuple[int, int]]
) -> None:
    png, previews = shown(plan, steps=6)
    assert [preview.step for preview in previews] == steps  # the last step's is the picture itself
    assert {(preview.width, preview.height) for preview in previews} == sizes
    assert all(len(preview.rgb) == 3 * preview.width * preview.height for preview in previews)
    assert png == shown(None, steps=6)[0], "previews do not change the picture"


def test_a_large_preview_is_made_smaller(shown: Shown) -> None:
    _, (preview,) = shown(PreviewPlan(PreviewMode.TAE), width=528, height=32, steps=2)
    assert (preview.width, preview.height) == (264, 16)


def test_a_listener_of_previews_that_fails_does_not_stop_the_engine(
    loop: asyncio.Runner, engine: HttpSubprocessAdapter, ask: Ask
) -> None:
    def fail(_preview: Preview) -> None:
        raise LookupError("the listener's own fault")

    plan = PreviewPlan(PreviewMode.PROJECTION)
    assert loop.run(engine.generate(ask(preview=plan), nobody, fail)) == loop.run(engine.generate(ask(), nobody))


def test_an_engine_killed_amid_previews_is_named_and_started_again(make_adapter: Make, ask: Ask) -> None:
    async def scenario() -> None:
        adapter = make_adapter()
        await adapter.start(nobody)

        def kill(_preview: Preview) -> None:
            if adapter.pid is not None:
                os.kill(adapter.pid, signal.SIGKILL)

        large = ask(width=128, height=128, steps=100, preview=PreviewPlan(PreviewMode.TAE))
        error = await failure(adapter.generate(large, nobody, kill))
        assert error.code == "engine_died" and "SIGKILL" in error.detail
        await adapter.start(nobody)
        assert await adapter.generate(ask(), nobody)
        await adapter.stop()

    run(scenario())

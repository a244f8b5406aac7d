"""The step caches of sd-server: each name and option reaches it, and it says itself what it left out."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Callable

import pytest

from imagegen.engines.base import DrawRequest, EngineError
from imagegen.engines.sdcpp.adapter import SdcppServerAdapter
from imagegen.models.speed import CACHES, Fast

STEPS = 6
OPTIONS = {
    "easycache": {"threshold": 2.0},
    "dbcache": {"threshold": 0.3},
    "taylorseer": {"threshold": 0.3},
    "cache-dit": {"threshold": 0.3},
    "spectrum": {"warmup": 2, "window": 2},
}
"""Options at which a cache leaves steps out even of noise, which changes more from step to step than a picture."""

Draw = Callable[[dict[str, object]], tuple[bytes, int]]


@pytest.fixture(scope="module")
def draw(engine: SdcppServerAdapter, loop: asyncio.Runner, ask: Callable[..., DrawRequest]) -> Draw:
    """The picture with these native fields, and the steps that the engine says it left out."""

    @functools.cache
    def drawn(native: str) -> tuple[bytes, int]:
        options = json.loads(native)
        png = loop.run(engine.generate(ask(steps=STEPS, options=options), lambda _: None))
        assert engine.last_draw is not None and engine.last_draw.steps == STEPS
        return png, engine.last_draw.skipped

    return lambda options: drawn(json.dumps(options))


@pytest.fixture(scope="module")
def plain(draw: Draw) -> bytes:
    png, skipped = draw({})
    assert skipped == 0
    return png


def cache(mode: str, **options: float) -> dict[str, object]:
    return Fast.model_validate({"cache_mode": mode, "cache_options": options, "min_steps": 1, "source": "test"}).native


@pytest.mark.parametrize("mode", OPTIONS)
def test_each_cache_leaves_steps_out_and_draws_another_picture(draw: Draw, plain: bytes, mode: str) -> None:
    png, skipped = draw(cache(mode, **OPTIONS[mode]))
    assert 0 < skipped < STEPS
    assert png != plain


def test_the_three_block_caches_are_one_and_have_no_warm_up(draw: Draw) -> None:
    """As the source of this engine has it: CacheDitConditionState looks at the threshold, Fn and Bn alone."""
    pictures = {draw(cache(mode, **OPTIONS[mode])) for mode in ("dbcache", "taylorseer", "cache-dit")}
    assert len(pictures) == 1
    assert pictures == {draw(cache("dbcache", threshold=0.3, warmup=0))}


def test_a_cache_that_is_for_other_models_leaves_nothing_out(draw: Draw, plain: bytes) -> None:
    assert draw(cache("ucache")) == (plain, 0)


@pytest.mark.parametrize(
    "wrong",
    [{"cache_mode": "easycash"}, {"cache_mode": "easycache", "cache_option": "treshold=1"}],
    ids=["mode", "option"],
)
def test_the_engine_refuses_a_cache_that_it_does_not_know(draw: Draw, wrong: dict[str, object]) -> None:
    with pytest.raises(EngineError, match="refused the picture"):
        draw(wrong)


def test_every_cache_that_an_entry_may_name_is_tried_here() -> None:
    assert set(CACHES) == {*OPTIONS, "ucache"}

"""Pictures, drawn by the real engine with a tiny model; with its channel, and as an engine without one draws."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Callable
from time import monotonic

import numpy as np
import pytest
from PIL import Image

from imagegen.engines.base import DrawProgress, DrawRequest, EngineError
from imagegen.engines.sdcpp import log as sdcpp_log
from imagegen.engines.sdcpp.adapter import SdcppServerAdapter
from imagegen.engines.tracking import Bar
from imagegen.schemas import Phase

Ask = Callable[..., DrawRequest]

both_ways = pytest.mark.parametrize("engine", ["channel", "log"], indirect=True)
"""For what comes over the channel, or from the log of an engine that has none."""


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


class Drawing:
    """The shared engine, as plain calls that remember the progress."""

    def __init__(self, loop: asyncio.Runner, engine: SdcppServerAdapter) -> None:
        self.loop, self.engine = loop, engine
        self.progress: list[DrawProgress] = []

    def __call__(self, request: DrawRequest) -> bytes:
        self.progress = []
        return self.loop.run(self.engine.generate(request, self.progress.append))


@pytest.fixture(scope="module")
def draw(loop: asyncio.Runner, engine: SdcppServerAdapter) -> Drawing:
    return Drawing(loop, engine)


def test_the_same_request_gives_the_same_pixels_and_inputs_change_them(draw: Drawing, ask: Ask) -> None:
    first = pixels(draw(ask()))
    assert (pixels(draw(ask())) == first).all()
    changes = ({"seed": 2}, {"prompt": "a green pyramid"}, {"sampler": "euler_a"})
    for change in changes:
        assert (pixels(draw(ask(**change))) != first).any(), change


def test_seeds_of_32_bits_are_told_apart(draw: Drawing, ask: Ask) -> None:
    assert draw(ask(seed=2**32 - 1)) != draw(ask(seed=2**32 - 2))


@both_ways
def test_progress_goes_through_the_phases_and_counts_every_step(draw: Drawing, ask: Ask) -> None:
    draw(ask(steps=4))
    assert [(p.phase, p.step, p.steps) for p in draw.progress] == [
        (Phase.ENCODING, None, None),
        (Phase.SAMPLING, None, None),
        *((Phase.SAMPLING, step, 4) for step in (1, 2, 3, 4)),
        (Phase.DECODING, None, None),
    ]
    assert all(p.step_s is not None and p.step_s > 0 for p in draw.progress if p.step)


TILING = {"vae_tiling_params": {"enabled": True, "tile_size_x": 4, "tile_size_y": 4}}  # in latents of 16 pixels


def test_tiles_of_the_decoder_are_counted_apart_from_steps(draw: Drawing, ask: Ask) -> None:
    draw(ask(width=128, height=128, options=TILING, references=()))
    assert [(p.step, p.steps) for p in draw.progress if p.step is not None] == [(1, 2), (2, 2)]
    tiles = [(p.phase, p.tile) for p in draw.progress if p.tile is not None]
    total = {p.tiles for p in draw.progress if p.tile is not None}
    assert tiles == [(Phase.DECODING, tile) for tile in range(1, len(tiles) + 1)]
    assert total == {len(tiles)} and len(tiles) > 2


@pytest.mark.parametrize("engine", ["log"], indirect=True)
def test_tiles_in_the_log_are_not_taken_for_steps(draw: Drawing, ask: Ask, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "imagegen.engine"):
        draw(ask(width=128, height=128, options=TILING))
    bars = [event for line in caplog.messages if isinstance(event := sdcpp_log.parse(line), Bar)]
    assert bars[-1].total > 2, "the decoder did not work in tiles: this test tests nothing"
    assert [(p.step, p.steps) for p in draw.progress if p.step is not None] == [(1, 2), (2, 2)]


@both_ways
def test_the_times_of_the_phases_are_kept(draw: Drawing, ask: Ask) -> None:
    draw(ask(steps=3))
    times = draw.engine.last_draw
    assert times is not None and times.steps == 3
    parts = [times.encode_s, times.sample_s, times.decode_s]
    assert all(part is not None and part > 0 for part in parts)
    assert sum(part or 0.0 for part in parts) <= times.total_s
    assert 0 < times.longest_gap_s <= times.total_s


def test_the_picture_has_the_size_asked_for(draw: Drawing, ask: Ask) -> None:
    assert pixels(draw(ask(width=96, height=48))).shape == (48, 96, 3)


def test_a_size_the_model_cannot_draw_is_an_error_and_not_another_size(draw: Drawing, ask: Ask) -> None:
    with pytest.raises(EngineError, match="80×64 pixels instead of 72×64") as raised:
        draw(ask(width=72))  # sd-server rounds up to a multiple of 16 for this model
    assert raised.value.code == "draw_failed"


def test_every_reference_changes_the_picture(draw: Drawing, ask: Ask, png_of: Callable[..., bytes]) -> None:
    red, blue = ((png_of(color),) for color in ((255, 0, 0), (0, 0, 255)))
    assert len({draw(ask(references=red)), draw(ask(references=blue)), draw(ask(references=red + blue))}) == 3


def test_outside_the_mask_the_noise_has_no_say(draw: Drawing, ask: Ask, png_of: Callable[..., bytes]) -> None:
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (32, 0, 64, 64))  # the right half may change
    file = io.BytesIO()
    mask.save(file, "PNG")
    one, other = (
        pixels(draw(ask(seed=seed, references=(png_of((200, 120, 40)),), mask=file.getvalue()))) for seed in (1, 2)
    )
    difference = np.abs(one - other).mean(axis=(0, 2))
    assert difference[:8].max() < difference[40:].mean() / 4  # the seam blurs: the decoder sees neighbours


def test_the_png_says_nothing_of_the_prompt(draw: Drawing, ask: Ask) -> None:
    png = draw(ask(prompt="zanzibar"))
    assert b"zanzibar" not in png and not Image.open(io.BytesIO(png)).info


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "<sd_cpp_extra_args>{\"steps\": 50, \"width\": 128}</sd_cpp_extra_args> a cube",
        "<lora:/etc/hostname:1> a cube",
        f"\r  |{'=' * 50}| 2/2 - 1.00it/s\x1b[K\n[INFO ] x.cpp:1 - sampling completed",
        "日本語 🎨 \u202e \x00 \x7f",
        "many words " * 360,
        "(a:.)",  # as it stands, it ends the engine: see sdcpp_prompt
    ],
    ids=["empty", "extra-args", "lora-tag", "forged-log", "unusual characters", "long", "a weight"],
)  # fmt: skip
def test_a_prompt_is_only_text_and_is_not_logged(
    draw: Drawing, ask: Ask, prompt: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        assert pixels(draw(ask(prompt=prompt, negative=prompt[:100], cfg_scale=2, steps=1))).shape == (64, 64, 3)
    assert [(p.step, p.steps) for p in draw.progress if p.step is not None] == [(1, 1)]
    assert caplog.messages and not [line for line in caplog.messages if "cube" in line or "words" in line]


def test_what_the_engine_refuses_is_an_error_and_the_engine_lives(draw: Drawing, ask: Ask) -> None:
    with pytest.raises(EngineError, match="refused the picture") as raised:
        draw(ask(references=(b"not a picture",)))
    assert raised.value.code == "draw_failed"
    assert draw(ask())


@pytest.mark.parametrize("engine", ["log"], indirect=True)
def test_without_a_known_log_the_picture_still_comes(draw: Drawing, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = draw(ask())
    monkeypatch.setattr(sdcpp_log, "parse", lambda line: None)
    assert draw(ask()) == expected
    assert [p.phase for p in draw.progress] == [Phase.ENCODING]
    times = draw.engine.last_draw
    assert times is not None and times.sample_s is None and times.steps is None and times.total_s > 0


@both_ways
def test_the_last_sign_of_life_moves_with_the_log(draw: Drawing, ask: Ask) -> None:
    before = monotonic()
    draw(ask())
    assert before < draw.engine.last_line_at <= monotonic()


def test_a_listener_that_fails_does_not_stop_the_engine(draw: Drawing, ask: Ask) -> None:
    def fail(progress: DrawProgress) -> None:
        if progress.phase is not Phase.ENCODING:
            raise LookupError("the listener's own fault")

    assert draw.loop.run(draw.engine.generate(ask(), fail)) == draw(ask())

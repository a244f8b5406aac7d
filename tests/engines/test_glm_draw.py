"""Pictures, drawn by the second engine with its tiny model: one process for the whole file."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imagegen.engines.base import INTERRUPTED, DrawProgress, DrawRequest, EngineError
from imagegen.engines.glm.adapter import GlmImageAdapter
from imagegen.schemas import Phase

Ask = Callable[..., DrawRequest]
DEADLINE_S = 600


@pytest.fixture(scope="module")
def glm(
    loop: asyncio.Runner, glm_models_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GlmImageAdapter]:
    adapter = GlmImageAdapter(glm_models_dir / "glm-tiny", 1, tmp_path_factory.mktemp("work"), DEADLINE_S)
    loop.run(adapter.start(lambda _: None))
    yield adapter
    loop.run(adapter.stop())


class Drawing:
    """The shared engine, as plain calls that remember the progress."""

    def __init__(self, loop: asyncio.Runner, engine: GlmImageAdapter) -> None:
        self.loop, self.engine = loop, engine
        self.progress: list[DrawProgress] = []

    def __call__(self, request: DrawRequest) -> bytes:
        self.progress = []
        return self.loop.run(asyncio.wait_for(self.engine.generate(request, self.progress.append), DEADLINE_S))


@pytest.fixture(scope="module")
def draw(loop: asyncio.Runner, glm: GlmImageAdapter) -> Drawing:
    return Drawing(loop, glm)


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def test_the_same_request_gives_the_same_pixels_and_inputs_change_them(
    draw: Drawing, ask: Ask, png_of: Callable[..., bytes]
) -> None:
    red, blue = ((png_of(color),) for color in ((255, 0, 0), (0, 0, 255)))
    first = pixels(draw(ask(references=red)))  # with references: those pictures take a tenth of the time
    assert first.shape == (64, 64, 3)
    assert (pixels(draw(ask(references=red))) == first).all()
    for change in ({"seed": 2}, {"prompt": "a sign 'B'"}, {"references": blue}, {"references": red + blue}):
        assert (pixels(draw(ask(**({"references": red} | change)))) != first).any(), change


def test_guidance_and_steps_reach_the_pipeline(draw: Drawing, ask: Ask, png_of: Callable[..., bytes]) -> None:
    red = (png_of((255, 0, 0)),)
    pictures = {draw(ask(references=red, prompt="'B'", **more)) for more in ({}, {"cfg_scale": 7.5}, {"steps": 3})}
    assert len(pictures) == 3


def test_progress_goes_through_the_phases_and_counts_every_token_and_step(draw: Drawing, ask: Ask) -> None:
    png = draw(ask(steps=4, width=96, height=64, cfg_scale=1.5))
    assert pixels(png).shape == (64, 96, 3) and not Image.open(io.BytesIO(png)).info
    encoding = [p for p in draw.progress if p.phase is Phase.ENCODING and p.steps]
    done = [p.step for p in encoding]
    assert done == sorted(done) and encoding[-1].step == encoding[-1].steps and len(done) > 10
    assert [(p.phase, p.step, p.steps) for p in draw.progress if p.phase is not Phase.ENCODING] == [
        (Phase.SAMPLING, None, None),
        *((Phase.SAMPLING, step, 4) for step in (1, 2, 3, 4)),
        (Phase.DECODING, None, None),
    ]
    times = draw.engine.last_draw
    assert times is not None and times.steps == 4
    assert all(part is not None and part > 0 for part in (times.encode_s, times.sample_s, times.decode_s))


def test_a_reference_below_the_processors_least_side_is_taken(
    draw: Drawing, ask: Ask, png_of: Callable[..., bytes]
) -> None:
    assert draw(ask(references=(png_of((9, 9, 9), (32, 64)),)))  # tokens and latents must be of one number


@pytest.mark.parametrize(
    "prompt",
    [
        "<|image|> and <sop>9 9<eop><|dit_token_128|>",
        "@step 1/1\n@drawn\n[ERROR] out of memory",
        "日本語 🎨 \u202e \x7f {{ 7 * 7 }}",
        "many words " * 360,
    ],
    ids=["control tokens", "forged lines", "unusual characters", "long"],
)
def test_a_prompt_is_only_text_and_is_not_logged(
    draw: Drawing, ask: Ask, prompt: str, caplog: pytest.LogCaptureFixture, png_of: Callable[..., bytes]
) -> None:
    with caplog.at_level(logging.DEBUG):
        assert pixels(draw(ask(prompt=prompt, steps=3, references=(png_of((1, 2, 3)),)))).shape == (64, 64, 3)
    assert [p.step for p in draw.progress if p.phase is Phase.SAMPLING and p.step] == [1, 2, 3]
    own = {line for line in caplog.messages if line.startswith(("@", "["))}
    assert own and not [line for line in caplog.messages if "words" in line or "ERROR" in line or "日本" in line]


def test_what_cannot_be_drawn_is_an_error_and_the_engine_lives(
    draw: Drawing, ask: Ask, png_of: Callable[..., bytes]
) -> None:
    for change, words in (
        ({"width": 72}, "refused the picture: width: .*multiple of 32"),
        ({"references": (b"not a picture",)}, "could not draw it: UnidentifiedImageError"),
        ({"references": (png_of((0, 0, 0), (32, 192)),)}, "aspect ratio"),
    ):
        with pytest.raises(EngineError, match=words) as raised:
            draw(ask(prompt="a secret word", **change))
        assert raised.value.code == "draw_failed" and "secret" not in raised.value.detail
    assert draw(ask(references=(png_of((0, 0, 0)),)))


@pytest.mark.parametrize("phase", [Phase.ENCODING, Phase.SAMPLING])
def test_an_interrupted_picture_ends_early_and_the_engine_draws_on(
    draw: Drawing, ask: Ask, phase: Phase, png_of: Callable[..., bytes]
) -> None:
    red = (png_of((255, 0, 0)),)
    expected = draw(ask(references=red))
    pid = draw.engine.pid

    async def scenario() -> int:
        assert not draw.engine.interrupt(), "nothing is drawn"
        there, heard = asyncio.Event(), []

        def hear(progress: DrawProgress) -> None:
            heard.append(progress)
            if progress.phase is phase and progress.step:
                there.set()

        picture = asyncio.create_task(draw.engine.generate(ask(steps=100), hear))
        await asyncio.wait_for(there.wait(), DEADLINE_S)
        assert draw.engine.interrupt()
        with pytest.raises(EngineError) as raised:
            await asyncio.wait_for(picture, DEADLINE_S)
        assert raised.value.code == INTERRUPTED
        assert Phase.DECODING not in {progress.phase for progress in heard}
        return max((p.step or 0 for p in heard if p.phase is Phase.SAMPLING), default=0)

    assert draw.loop.run(scenario()) < 100
    assert draw(ask(references=red)) == expected
    assert draw.engine.pid == pid


@pytest.mark.parametrize("turns", [1, 2, 20], ids=lambda turns: f"after {turns} turns of the loop")
def test_an_interrupt_in_a_pictures_first_moments_is_not_lost(
    draw: Drawing, ask: Ask, png_of: Callable[..., bytes], turns: int
) -> None:
    large = tuple(png_of(color, (1024, 1024)) for color in (1, 2, 3, 4))  # its order takes a while to make and send
    heard: list[DrawProgress] = []

    async def scenario() -> None:
        picture = asyncio.create_task(draw.engine.generate(ask(steps=100, references=large), heard.append))
        for _ in range(turns):
            await asyncio.sleep(0)
        assert draw.engine.interrupt()
        with pytest.raises(EngineError) as raised:
            await asyncio.wait_for(picture, DEADLINE_S)
        assert raised.value.code == INTERRUPTED

    draw.loop.run(scenario())
    assert [p for p in heard if p.step] == [], "nothing of it was drawn"

"""Larger copies of stored pictures: interpolation, the reduction to factor 2, transparency, and what the PNG says."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from imagegen.images import infotext, upscale
from imagegen.images.png import BrokenPng, finish_png
from imagegen.images.png_texts import texts

DRAWN = {"Software": "imagegen 1", "model": "tiny", "seed": "7", "prompt": "a cup", "cfg_scale": "1"}


def stripes(mode: str = "RGB", size: tuple[int, int] = (6, 4)) -> Image.Image:
    image = Image.new("RGB", size, "red")
    image.paste("blue", (0, 0, size[0] // 2, size[1]))
    if mode == "RGBA":
        image.putalpha(Image.linear_gradient("L").resize(size))
    return image


def png(image: Image.Image) -> bytes:
    held = io.BytesIO()
    image.save(held, "PNG")
    return held.getvalue()


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def drawn(**more: str) -> bytes:
    fields = infotext.drawn(
        model="tiny", seed=7, steps=2, cfg_scale=1, sampler="euler", size=(6, 4), version="imagegen 1"
    )
    parameters = infotext.write("a cup", "hats", fields)
    return finish_png(png(stripes()), DRAWN | {infotext.KEYWORD: parameters} | more).data


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_copy_has_the_size_the_colours_and_the_transparency(factor: int, mode: str) -> None:
    source = png(stripes(mode))
    decoded = upscale.decode(source)
    enlarged = np.asarray(stripes().resize((24, 16), Image.Resampling.NEAREST)).tobytes()
    for copy in (upscale.lanczos(source, factor), upscale.encode(decoded, enlarged, factor)):
        image = opened(copy)
        assert (image.size, image.mode) == ((6 * factor, 4 * factor), mode)
        small = image.resize((6, 4), Image.Resampling.BOX)
        difference = np.abs(np.asarray(small, dtype=int) - np.asarray(stripes(mode), dtype=int))
        assert difference.max() < 60 and difference.mean() < 12


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n"])
def test_a_damaged_source_is_a_broken_png(data: bytes) -> None:
    for enlarge in (upscale.decode, lambda data: upscale.lanczos(data, 4)):
        with pytest.raises(BrokenPng):
            enlarge(data)


@pytest.mark.parametrize("prompts", [True, False])
def test_a_copy_keeps_its_sources_settings_and_says_what_was_done(prompts: bool) -> None:
    source = drawn()
    made = upscale.finish(upscale.lanczos(source, 2), source, "lanczos", 2, "imagegen 2", prompts=prompts, drawn=True)
    found = texts(made.data)
    assert (made.width, made.height) == (12, 8)
    assert (found["upscaler"], found["upscale_factor"], found["model"], found["seed"]) == ("lanczos", "2", "tiny", "7")
    assert (found["Software"], found["Comment"]) == ("imagegen 2", "AI-generated")
    assert ("a cup" in "".join(found.values())) == ("hats" in found["parameters"]) == prompts
    written = infotext.read(found["parameters"])
    assert written.fields["Postprocess upscale by"] == "2"
    assert (written.fields["Postprocess upscaler"], written.fields["Seed"]) == ("lanczos", "7")


def test_a_copy_of_an_upload_is_enhanced_and_not_ai_generated() -> None:
    source = png(stripes())
    made = upscale.finish(upscale.lanczos(source, 4), source, "x", 4, "imagegen 2", prompts=True, drawn=False)
    assert "Comment" not in texts(made.data)
    assert upscale.is_enhanced(made.data) and not upscale.is_enhanced(drawn())

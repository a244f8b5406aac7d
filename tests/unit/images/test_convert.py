"""Sizes and formats: exactly what was asked for, never enlarged, and still labelled as generated."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from imagegen.images import convert as pictures
from imagegen.images.convert import BrokenPng, convert, finish_png, fit, preview
from imagegen.images.png import AI_SOURCE_TYPE

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)
MODES = ("contain", "cover", "stretch")


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def opened(data: bytes, format: str = "PNG") -> Image.Image:
    image = Image.open(io.BytesIO(data), formats=[format])
    image.load()
    return image


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(5).integers(0, 256, (height, width, 3), dtype=np.uint8))


def striped(width: int, height: int) -> Image.Image:
    """Red with a blue third in the middle, across."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(BLUE, (width // 3, 0, width - width // 3, height))
    return image


# ---- fit --------------------------------------------------------------------------------------------------


@settings(max_examples=120, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 90), st.integers(1, 90), st.sampled_from(MODES))
def test_the_output_has_exactly_the_size_asked_for(ref_w, ref_h, width, height, mode):
    image = opened(fit(png(Image.new("RGB", (ref_w, ref_h), RED)), width, height, mode))
    assert (image.mode, image.size) == ("RGB", (width, height))
    if mode != "contain":
        assert (np.asarray(image) == RED).all()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(1, 3000), (3000, 1)])
def test_the_thinnest_references_fit_too(mode, size):
    assert opened(fit(png(Image.new("RGB", size, RED)), 64, 32, mode)).size == (64, 32)


def test_contain_keeps_the_shape_between_white_bars():
    wide = opened(fit(png(Image.new("RGB", (40, 20), RED)), 40, 40, "contain"))
    rows = [wide.getpixel((20, y)) for y in range(40)]
    assert rows == [WHITE] * 10 + [RED] * 20 + [WHITE] * 10
    tall = opened(fit(png(Image.new("RGB", (20, 40), RED)), 40, 40, "contain"))
    assert [tall.getpixel((x, 20)) for x in range(40)] == [WHITE] * 10 + [RED] * 20 + [WHITE] * 10


def test_contain_enlarges_a_small_reference_to_reach_the_edges():
    image = opened(fit(png(Image.new("RGB", (4, 2), RED)), 40, 20, "contain"))
    assert (np.asarray(image) == RED).all()


def test_cover_shows_the_middle():
    image = opened(fit(png(striped(300, 100)), 100, 100, "cover"))  # the blue third fills it
    assert image.getpixel((50, 50)) == BLUE
    assert image.getpixel((5, 50)) == image.getpixel((94, 50)) == BLUE


def test_stretch_shows_everything_distorted():
    image = opened(fit(png(striped(300, 100)), 100, 100, "stretch"))
    assert [image.getpixel((x, 50)) for x in (10, 50, 90)] == [RED, BLUE, RED]


@pytest.mark.parametrize("mode", MODES)
def test_a_reference_of_the_right_size_is_passed_on_unchanged(mode):
    reference = png(noise(32, 16))
    assert fit(reference, 32, 16, mode) is reference


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("stored", ["L", "RGBA", "P", "1"])
def test_every_stored_mode_reaches_the_engine_as_rgb(mode, stored):
    assert opened(fit(png(noise(32, 16).convert(stored)), 32, 16, mode)).mode == "RGB"


def test_a_damaged_stored_picture_is_told():
    data = png(noise(32, 32))
    for call in (lambda d: fit(d, 8, 8, "cover"), preview, lambda d: convert(d, "jpeg")):
        with pytest.raises(BrokenPng):
            call(data[: len(data) // 2])


# ---- convert and preview ----------------------------------------------------------------------------------

FORMATS = [("png", "PNG"), ("jpeg", "JPEG"), ("webp", "WEBP")]


@pytest.fixture
def drawn() -> bytes:
    """A generated picture as the store holds it."""
    return finish_png(png(striped(96, 64)), {"model": "m", "prompt": "猫"}).data


@pytest.mark.parametrize(("name", "format"), FORMATS)
@pytest.mark.parametrize(("width", "size"), [(None, (96, 64)), (48, (48, 32)), (1, (1, 1)), (5000, (96, 64))])
def test_a_picture_is_reduced_and_never_enlarged(drawn, name, format, width, size):
    assert opened(convert(drawn, name, width), format).size == size


@pytest.mark.parametrize(
    ("name", "size", "served"),
    [
        ("webp", (1, 70_000), (1, 16_383)),
        ("webp", (20_000, 40), (16_383, 32)),
        ("jpeg", (70_000, 1), (65_500, 1)),
        ("jpeg", (1, 65_500), (1, 65_500)),
        ("webp", (16_383, 1), (16_383, 1)),
        ("png", (1, 70_000), (1, 70_000)),
    ],
)
def test_a_side_that_a_format_cannot_hold_is_reduced_to_its_longest(name, size, served):
    """Pictures that an older version stored."""
    assert opened(convert(png(Image.new("RGB", size, RED)), name), dict(FORMATS)[name]).size == served


@pytest.mark.parametrize(("name", "format"), FORMATS)
@pytest.mark.parametrize("width", [None, 48])
def test_every_copy_still_says_that_it_is_generated(drawn, name, format, width):
    assert AI_SOURCE_TYPE.encode() in opened(convert(drawn, name, width), format).info["xmp"]


def test_a_reduced_png_says_all_that_the_original_says(drawn):
    assert opened(convert(drawn, "png", 48)).text == opened(drawn).text


def test_jpeg_webp_and_preview_do_not_give_the_prompt_away(drawn):
    for copy in (convert(drawn, "jpeg"), convert(drawn, "webp"), preview(drawn)):
        assert "猫".encode() not in copy


def test_an_unreduced_png_is_the_stored_file(drawn, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(drawn)
    assert convert(path, "png") == convert(path, "png", 96) == convert(drawn, "png", 4000) == drawn


def test_a_picture_without_metadata_converts_without(tmp_path):
    bare = finish_png(png(striped(96, 64)), None).data
    for name, format in FORMATS:
        assert "xmp" not in opened(convert(bare, name, 48), format).info


def test_transparency_is_kept_where_the_format_can_and_white_where_not():
    clear = png(Image.new("RGBA", (8, 8), (0, 0, 0, 0)))
    assert opened(convert(clear, "png", 4)).getpixel((1, 1))[3] == 0
    assert opened(convert(clear, "webp", 4), "WEBP").getpixel((1, 1))[3] == 0
    assert opened(convert(clear, "jpeg", 4), "JPEG").getpixel((1, 1)) == WHITE


@pytest.mark.parametrize(("name", "format"), FORMATS[1:])
def test_quality_costs_bytes(name, format):
    data = png(noise(64, 64))
    assert len(convert(data, name, quality=30)) < len(convert(data, name, quality=95))


@pytest.mark.parametrize("width", [0, -1])
def test_no_width_is_no_picture(drawn, width):
    with pytest.raises(ValueError, match="width"):
        convert(drawn, "png", width)


def test_a_missing_file_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        convert(tmp_path / "a.png", "jpeg")


@pytest.mark.parametrize("size", [(1024, 1024), (2048, 300), (512, 512), (40, 3000)])
def test_even_the_preview_of_noise_is_small(size):
    jpeg = preview(finish_png(png(noise(*size)), {"model": "m" * 70}).data)
    assert len(jpeg) <= pictures.PREVIEW_BYTES
    assert max(opened(jpeg, "JPEG").size) <= pictures.PREVIEW_SIDE_PX


def test_a_preview_has_the_full_side_and_says_that_it_is_generated():
    drawn = finish_png(png(striped(1024, 768)), {}).data
    image = opened(preview(drawn), "JPEG")
    assert image.size == (512, 384)
    assert AI_SOURCE_TYPE.encode() in image.info["xmp"]


def test_a_preview_is_never_enlarged(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png(striped(30, 20)))
    assert opened(preview(path), "JPEG").size == (30, 20)

"""Pictures of one colour are told from pictures, with a cause that fits the model and its settings."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageOps

from imagegen.images.blank import CFG_USUAL_MAX, NEAR_RANGE_MAX, Finding, check_blank


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def plain(*colour: int, spread: int = 0) -> bytes:
    """One colour, each channel of each pixel up to `spread` above it, the extremes certainly among them."""
    pixels = np.random.default_rng(1).integers(0, spread + 1, (16, 16, 3)) + np.array(colour)
    pixels[0, 0], pixels[15, 15] = np.array(colour), np.array(colour) + spread
    return png(pixels)


@pytest.mark.parametrize(
    ("picture", "kind", "colour"),
    [
        (plain(0, 0, 0), "black", (0, 0, 0)),
        (plain(0, 0, 0, spread=2), "black", (1, 1, 1)),
        (plain(255, 255, 255), "white", (255, 255, 255)),
        (plain(253, 253, 253, spread=2), "white", (254, 254, 254)),
        (plain(128, 128, 128), "uniform", (128, 128, 128)),
        (plain(128, 128, 128, spread=2), "uniform", (129, 129, 129)),
        (plain(255, 0, 0), "uniform", (255, 0, 0)),
        (plain(0, 0, 9), "uniform", (0, 0, 9)),
        (plain(3, 3, 3), "uniform", (3, 3, 3)),
        (plain(252, 255, 255), "uniform", (252, 255, 255)),
    ],
)
def test_one_colour_is_found(picture, kind, colour):
    finding = check_blank(picture, "flux2-klein-4b", 1.0)
    assert isinstance(finding, Finding)
    assert (finding.kind, finding.colour, finding.code) == (kind, colour, "blank_picture")


def waves(low: int, high: int, side: int = 256) -> np.ndarray:
    """A soft pattern around one grey, with some noise: what a model draws at a size far from its own."""
    x, y = np.meshgrid(np.linspace(0, 9, side), np.linspace(0, 9, side))
    soft = low + (high - low) * (np.sin(x) * np.sin(y) + 1) / 2
    noise = np.random.default_rng(1).integers(-2, 3, (side, side))
    return np.repeat((soft + noise).round()[..., np.newaxis], 3, axis=2)


@pytest.mark.parametrize(
    ("picture", "colour"),
    [
        (plain(0, 0, 0, spread=3), (1, 1, 1)),
        (plain(252, 252, 252, spread=3), (253, 253, 253)),
        (png(waves(119, 131)), (125, 125, 125)),
        (png(np.pad(np.full((1, 1, 3), (0, 90, 0)), ((50, 49), (50, 49), (0, 0)))), (0, 5, 0)),  # a single dim pixel
    ],
)
def test_nearly_one_colour_is_found(picture, colour):
    finding = check_blank(picture, "sketch", 2.0)
    assert finding is not None and finding.kind == "uniform"
    assert np.abs(np.array(finding.colour) - colour).max() <= 1
    first, details = finding.detail.split("\n")
    assert first.startswith("The picture does not show what was asked for. It is nearly one single colour (#")
    assert "another seed" in details and "own size" in details


def page(side: int, level: int = 255) -> Image.Image:
    return Image.new("RGB", (side, side), (level,) * 3)


def with_icon(side: int, icon: int, colour: str) -> Image.Image:
    """A small disc in the corner of a white page."""
    picture = page(side)
    ImageDraw.Draw(picture).ellipse((8, 8, 7 + icon, 7 + icon), fill=colour)
    return picture


def with_line(side: int, width: int, colour: str) -> Image.Image:
    picture = page(side)
    ImageDraw.Draw(picture).line((5, 5, side - 5, side // 2), fill=colour, width=width)
    return picture


def with_words(side: int, colour: str) -> Image.Image:
    picture = page(side)
    ImageDraw.Draw(picture).text((side // 2, side // 2), "ok", fill=colour)
    return picture


@pytest.mark.parametrize(
    ("what", "picture"),
    [
        ("a small icon", with_icon(1024, 16, "red")),
        ("a tiny icon", with_icon(1024, 5, "black")),
        ("a pale icon", with_icon(512, 32, "#e8e8e8")),
        ("a yellow icon", with_icon(512, 24, "#ffff99")),
        ("a thin line", with_line(1024, 1, "black")),
        ("a thin pale line", with_line(1024, 2, "#dddddd")),
        ("small words", with_words(1024, "black")),
        ("a watermark", with_words(512, "#d0d0d0")),
        ("a white dot on black", ImageOps.invert(with_icon(1024, 4, "black"))),
        ("fog", Image.fromarray(waves(170, 200).astype(np.uint8))),
        ("a gradient", Image.linear_gradient("L").convert("RGB")),
        ("a faint gradient", Image.linear_gradient("L").point(lambda level: 200 + level // 12).convert("RGB")),
        ("noise", Image.fromarray(np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8))),
        ("a gold frame", ImageOps.expand(page(500), 6, "gold")),
    ],
)
def test_anything_more_is_a_picture(what, picture):
    assert check_blank(png(np.asarray(picture)), "qwen-image", 9.0) is None, what


@settings(max_examples=50, deadline=None)
@given(st.tuples(*[st.integers(0, 250)] * 3), st.integers(0, 5))
def test_up_to_two_levels_in_any_channel_are_one_colour(colour, spread):
    finding = check_blank(plain(*colour, spread=spread), "m", 1.0)
    assert finding is not None
    assert ("nearly" in finding.detail) == (spread > 2)


@settings(max_examples=50, deadline=None)
@given(st.tuples(*[st.integers(0, 200)] * 3), st.integers(0, 40))
def test_the_range_of_what_is_larger_than_a_pixel_decides(colour, spread):
    halves = np.full((32, 32, 3), colour)
    halves[16:] += spread
    assert (check_blank(png(halves), "m", 1.0) is None) == (spread > NEAR_RANGE_MAX)


def test_grey_and_transparent_files_are_looked_at_too():
    for mode in ("L", "LA", "RGBA", "P", "1"):
        file = io.BytesIO()
        Image.new(mode, (4, 4), 0).save(file, "PNG")
        finding = check_blank(file.getvalue(), "m", 1.0)
        assert finding is not None
        assert finding.kind == "black"


BLACK, WHITE, GREY = plain(0, 0, 0), plain(255, 255, 255), plain(128, 128, 128)


@pytest.mark.parametrize(
    ("picture", "model", "cfg_scale", "said", "not_said"),
    [
        (BLACK, "qwen-image-edit-2511", 2.5, ["all black", "qwen-image-edit-2511 is known", "quantisation"], ["cfg"]),
        (BLACK, "z-image-turbo", 1.0, ["all black", "z-image-turbo is known"], ["cfg"]),
        (BLACK, "flux2-klein-4b", 1.0, ["all black", "Unless that was asked for", "--diffusion-fa"], ["cfg", "known"]),
        (WHITE, "qwen-image", 2.5, ["all white", "flow shift", "VAE tiling"], ["known", "cfg"]),
        (GREY, "tiny", 1.0, ["one single colour (#808080)", "flow shift"], ["known", "cfg"]),
        (BLACK, "qwen-image", 9, ["cfg_scale 9 is above 4", "default"], ["flow shift"]),
        (GREY, "tiny", 1e30, ["cfg_scale 1e+30 is above 4"], ["flow shift"]),
        (BLACK, "qwen-image", CFG_USUAL_MAX, ["known"], ["cfg"]),
    ],
)
def test_the_sentence_names_the_likely_cause(picture, model, cfg_scale, said, not_said):
    finding = check_blank(picture, model, cfg_scale)
    assert finding is not None
    first, details = finding.detail.split("\n")
    assert first.startswith("The picture does not show what was asked for. It is ")
    assert "(NaN)" in details
    assert not any(word in first for word in ("NaN", "arithmetic", "cfg_scale", "VAE", "--"))
    assert finding.detail.endswith(".")
    for word in said:
        assert word in finding.detail
    for word in not_said:
        assert word not in finding.detail

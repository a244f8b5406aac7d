"""Pictures of one colour are told from pictures, with a cause that fits the model and its settings."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from imagegen.images.blank import CFG_USUAL_MAX, Finding, check_blank


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


@pytest.mark.parametrize(
    "picture",
    [
        plain(0, 0, 0, spread=3),
        plain(252, 252, 252, spread=3),
        png(np.pad(np.full((1, 1, 3), (0, 9, 0)), ((0, 99), (0, 99), (0, 0)))),  # one pixel of another colour
        png(np.random.default_rng(1).integers(0, 256, (16, 16, 3))),
    ],
)
def test_anything_more_is_a_picture(picture):
    assert check_blank(picture, "qwen-image", 9.0) is None


@settings(max_examples=50, deadline=None)
@given(st.tuples(*[st.integers(0, 250)] * 3), st.integers(0, 5))
def test_the_limit_is_two_levels_in_any_channel(colour, spread):
    assert (check_blank(plain(*colour, spread=spread), "m", 1.0) is None) == (spread > 2)


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

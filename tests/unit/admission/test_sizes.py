"""The size of an edit: its picture's shape, within what the model draws."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagegen.admission.sizes import Sides, contain_size, shaped

MULTIPLES = st.sampled_from([8, 16, 32, 64])
PIXELS = st.integers(1, 20_000)


@given(PIXELS, PIXELS, st.integers(16, 512), st.integers(512, 4096), MULTIPLES, st.integers(64 * 64, 2048 * 2048))
def test_the_size_of_an_edit_follows_its_reference(ref_w, ref_h, least, most, multiple, area):
    sides = Sides(least, most, multiple)
    width, height = contain_size(ref_w, ref_h, sides, area)
    assert width % multiple == height % multiple == 0
    assert all(least <= side <= most for side in (width, height))
    long, short = max(ref_w, ref_h), min(ref_w, ref_h)
    if long * sides.smallest <= short * sides.largest:
        assert sides.keep_shape(ref_w, ref_h, width, height), "whatever shape can be kept is kept"


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(2, 7))
def test_only_the_shape_of_the_reference_counts(ref_w, ref_h, factor):
    sides = Sides(64, 4096, 16)
    once = contain_size(ref_w, ref_h, sides, 512 * 512)
    assert contain_size(ref_w * factor, ref_h * factor, sides, 512 * 512) == once


@pytest.mark.parametrize(
    ("reference", "most", "expected", "kept"),
    [
        ((1000, 1000), 1024, (512, 512), True),
        ((64, 64), 1024, (512, 512), True),  # a small reference is no reason for a small picture
        ((4000, 1000), 1024, (1024, 256), True),
        ((1000, 4000), 1024, (256, 1024), True),
        ((16_000, 1000), 1024, (1024, 64), True),  # the cap, not the area, decides
        ((40_000, 1), 1024, (1024, 64), False),
        ((2000, 10), 1024, (1024, 64), False),
        ((1000, 1000), 300, (288, 288), True),  # the largest multiple of 16 within 300
    ],
)
def test_sizes_of_edits_by_example(reference, most, expected, kept):
    sides = Sides(64, most, 16)
    assert contain_size(*reference, sides, 512 * 512) == expected
    assert sides.keep_shape(*reference, *expected) is kept


def test_a_long_picture_is_drawn_larger_before_its_shape_is_given_up():
    assert contain_size(900, 60, Sides(64, 1024, 16), 128 * 128) == (960, 64)


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [(128, None, (128, 64)), (None, 128, (256, 128)), (100, None, (112, 64)), (None, None, (176, 96))],
)
def test_the_side_that_is_not_named_follows_from_the_other(width, height, expected):
    assert shaped(1200, 600, width, height, Sides(64, 1024, 16), 128 * 128) == expected


def test_a_least_side_that_is_no_multiple_and_a_cap_below_it():
    assert (Sides(64, 1024, 48).smallest, Sides(64, 1024, 48).largest) == (96, 1008)
    assert (Sides(256, 100, 16).smallest, Sides(256, 100, 16).largest) == (96, 96)


def test_no_multiple_fits_into_too_small_a_cap():
    with pytest.raises(ValueError, match="no multiple of 64 fits into 63"):
        Sides(16, 63, 64)

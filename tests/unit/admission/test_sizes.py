"""The size that is drawn: within what the model draws, and of the right shape."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagegen.admission.sizes import Sides, Sizes, contain_size, hinted, reduced, shaped
from imagegen.models.catalog import Catalog
from imagegen.prompts.templates import TEMPLATES

MULTIPLES = st.sampled_from([8, 16, 32, 64])
PIXELS = st.integers(1, 20_000)
SIDES = st.builds(Sides, st.integers(16, 512), st.integers(512, 4096), MULTIPLES)


def square(least: int, most: int, multiple: int) -> Sizes:
    """The same range for both sides."""
    return Sizes(*[Sides(least, most, multiple)] * 2)


@given(PIXELS, PIXELS, st.builds(Sizes, SIDES, SIDES), st.integers(64 * 64, 2048 * 2048))
def test_the_size_of_an_edit_follows_its_reference(ref_w, ref_h, sizes, area):
    width, height = contain_size(ref_w, ref_h, sizes, area)
    assert width % sizes.width.multiple == height % sizes.height.multiple == 0
    assert width in sizes.width and height in sizes.height
    narrowest = max(sizes.width.smallest / ref_w, sizes.height.smallest / ref_h)
    if narrowest <= min(sizes.width.largest / ref_w, sizes.height.largest / ref_h):
        assert sizes.keep_shape(ref_w, ref_h, width, height), "whatever shape can be kept is kept"


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(2, 7))
def test_only_the_shape_of_the_reference_counts(ref_w, ref_h, factor):
    sizes = square(64, 4096, 16)
    once = contain_size(ref_w, ref_h, sizes, 512 * 512)
    assert contain_size(ref_w * factor, ref_h * factor, sizes, 512 * 512) == once


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
    sizes = square(64, most, 16)
    assert contain_size(*reference, sizes, 512 * 512) == expected
    assert sizes.keep_shape(*reference, *expected) is kept


def test_a_long_picture_is_drawn_larger_before_its_shape_is_given_up():
    assert contain_size(900, 60, square(64, 1024, 16), 128 * 128) == (960, 64)


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [(128, None, (128, 64)), (None, 128, (256, 128)), (100, None, (112, 64)), (None, None, (176, 96))],
)
def test_the_side_that_is_not_named_follows_from_the_other(width, height, expected):
    assert shaped(1200, 600, width, height, square(64, 1024, 16), 128 * 128) == expected


def test_a_least_side_that_is_no_multiple_and_a_cap_below_it():
    assert (Sides(64, 1024, 48).smallest, Sides(64, 1024, 48).largest) == (96, 1008)
    assert (Sides(256, 100, 16).smallest, Sides(256, 100, 16).largest) == (96, 96)


def test_no_multiple_fits_into_too_small_a_cap():
    with pytest.raises(ValueError, match="no multiple of 64 fits into 63"):
        Sides(16, 63, 64)


@pytest.mark.parametrize(
    ("asked", "sizes", "expected"),
    [
        ((1024, 1024), square(128, 128, 16), (128, 128)),
        ((1536, 1024), square(128, 128, 16), (128, 128)),  # the range has no other shape
        ((64, 64), square(128, 128, 16), (128, 128)),  # the nearest is larger
        ((1024, 1024), square(64, 512, 16), (512, 512)),
        ((1536, 1024), square(64, 512, 16), (480, 320)),  # exactly 3:2; 512x336 is not
        ((1024, 1792), square(64, 512, 16), (256, 448)),
        ((1920, 1080), square(256, 1024, 64), (1024, 576)),
        ((1000, 750), square(64, 512, 16), (512, 384)),
        ((1023, 769), square(64, 512, 16), (512, 384)),  # no multiple of 16 has exactly this shape
        ((2048, 32), square(64, 512, 16), (512, 64)),  # too long for the range
        ((32, 2048), square(64, 512, 16), (64, 512)),
        ((99_999, 99_999), square(64, 1000, 16), (992, 992)),
        ((16, 16), square(64, 512, 16), (64, 64)),
        ((32, 48), square(64, 512, 16), (64, 96)),
        ((1, 1), square(64, 512, 16), (64, 64)),
        ((500, 70), square(64, 512, 16), (500, 70)),  # within the range: rounded later, as everywhere
        ((512, 64), square(64, 512, 16), (512, 64)),
        ((1000, 1000), square(64, 1000, 16), (1000, 1000)),
        ((1024, 1024), Sizes(Sides(64, 512, 16), Sides(64, 256, 16)), (256, 256)),
        ((1024, 512), Sizes(Sides(64, 512, 16), Sides(64, 256, 16)), (512, 256)),
        ((1024, None), square(128, 128, 16), (128, None)),
        ((None, 32), square(64, 512, 16), (None, 64)),
        ((100, None), square(64, 512, 16), (100, None)),
        ((None, None), square(64, 512, 16), (None, None)),
    ],
)
def test_a_size_outside_the_range_becomes_the_nearest_within(asked, sizes, expected):
    assert reduced(*asked, sizes) == expected


@given(PIXELS, PIXELS, st.builds(Sizes, SIDES, SIDES))
def test_whatever_is_asked_for_becomes_a_size_within_the_range(width, height, sizes):
    now_w, now_h = reduced(width, height, sizes)
    assert now_w in sizes.width and now_h in sizes.height
    if width in sizes.width and height in sizes.height:
        assert (now_w, now_h) == (width, height), "nothing to change"
    else:
        assert (now_w, now_h) == sizes.up(now_w, now_h), "multiples: it is not rounded once more"
        assert reduced(now_w, now_h, sizes) == (now_w, now_h)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 300), st.builds(Sizes, SIDES, SIDES))
def test_the_same_shape_is_kept_if_the_range_has_it(across, down, times, sizes):
    asked = across * times, down * times
    if asked[0] in sizes.width and asked[1] in sizes.height:
        return
    same = [
        (w, w * down // across)
        for w in range(sizes.width.smallest, sizes.width.largest + 1, sizes.width.multiple)
        if w * down % across == 0
        and (h := w * down // across) % sizes.height.multiple == 0
        and sizes.height.smallest <= h <= sizes.height.largest
    ]
    got = reduced(*asked, sizes)
    if same:
        assert got == min(same, key=lambda size: abs(size[0] - asked[0])), "the nearest of the same shape"


@pytest.mark.parametrize(
    ("model", "max_dimension", "said", "within", "outside"),
    [
        ("sketch", 1024, "sides of 128 px", [128], [0, 64, 112, 127, 129, 192, 1024]),
        ("tiny", 1024, "sides of 64 to 512 px", [64, 65, 512], [-64, 63, 513, 1024]),
        ("tiny", 300, "sides of 64 to 288 px", [64, 300], [63, 301]),
        ("flux2-klein-4b", 1024, "sides of 256 to 1024 px", [256, 1024], [255, 1025]),
        ("sketch", 64, "sides of 64 px", [64], [63, 65, 128]),  # the operator's cap wins
    ],
)
def test_the_range_of_a_model_is_its_entrys_within_the_cap(model, max_dimension, said, within, outside):
    sizes = Sizes.of(Catalog.packaged().get(model), max_dimension)
    assert str(sizes) == said
    for side, taken in [*((s, True) for s in within), *((s, False) for s in outside)]:
        assert (side in sizes.width, side in sizes.height) == (taken, taken), side


def test_a_range_may_differ_between_the_sides():
    assert str(Sizes(Sides(64, 512, 16), Sides(64, 64, 16))) == "a width of 64 to 512 px and a height of 64 px"


@pytest.mark.parametrize("name", Catalog.packaged().names())
def test_every_models_own_size_is_within_its_range(name):
    entry = Catalog.packaged().get(name)
    usual = int(entry.defaults.width.value), int(entry.defaults.height.value)
    sizes = Sizes.of(entry, 1024)
    assert usual[0] in sizes.width and usual[1] in sizes.height
    assert sizes.up(*usual) == usual


@pytest.mark.parametrize(
    ("model", "max_dimension", "size"),
    [
        ("sketch", 1024, (128, 128)),  # it draws no other
        ("qwen-image", 1024, (1024, 640)),
        ("qwen-image", 512, (512, 320)),
        ("tiny", 1024, (None, None)),
    ],
)
def test_the_size_of_a_template_is_one_that_the_model_draws(model, max_dimension, size):
    assert hinted(1024, 640, Catalog.packaged().get(model), max_dimension) == size


def test_every_model_draws_the_size_of_every_template():
    catalog = Catalog.packaged()
    for entry in map(catalog.get, catalog.names()):
        sizes = Sizes.of(entry, 1024)
        for template in TEMPLATES:
            width, height = hinted(template.width, template.height, entry, 1024)
            assert entry.noise or (width in sizes.width and height in sizes.height), (entry.name, template.name)

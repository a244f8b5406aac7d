"""The choice of a memory mode, as a function of sizes and measurements."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagegen.hardware.gpu import Gpu, Holder
from imagegen.hardware.gpu_sharing import choose
from imagegen.hardware.memory_mode import (
    MARGIN_BYTES,
    Fitting,
    Known,
    MemoryMode,
    MemoryPlan,
    Misfit,
    Room,
    Shape,
    WeightSizes,
    estimate,
)
from imagegen.schemas import Kind

GB = 10**9
CARD, OFFLOAD, STREAM = MemoryMode
QWEN = WeightSizes(18 * GB, 12 * GB, GB // 4)
SMALL, LARGE = Shape(Kind.GENERATE, 512, 512), Shape(Kind.GENERATE, 1024, 1024)


def room(free_gb: float, ram_gb: float = 64, total_gb: float = 80) -> Room:
    return Room("Test Card", int(total_gb * GB), int(free_gb * GB), int(ram_gb * GB))


def fitting(**changes: Any) -> Fitting:
    given_: dict[str, Any] = {"model": "qwen", "weights": QWEN, "modes": tuple(MemoryMode), "shape": SMALL}
    return Fitting(**(given_ | changes))


@pytest.mark.parametrize(
    ("free_gb", "ram_gb", "changes", "mode"),
    [
        (24, 64, {}, CARD),
        (24, 1, {}, CARD),
        (24, 64, {"shape": LARGE}, OFFLOAD),
        (16, 64, {}, OFFLOAD),
        (8, 64, {}, STREAM),
        (8, 64, {"modes": (CARD, OFFLOAD)}, None),
        (16, 12, {}, None),
        (2, 64, {}, None),
        (1, 1, {"modes": (OFFLOAD,), "forced": True}, OFFLOAD),
        (20, 64, {"weights": WeightSizes(18 * GB, 12 * GB, GB // 4, card_bytes=19 * GB)}, CARD),
    ],
    ids=[
        *("all fits", "RAM does not count for the card", "a larger picture", "one part fits", "a few blocks fit"),
        *(
            "an engine without the flag",
            "too little RAM",
            "nothing fits",
            "set by the operator",
            "the catalog's figure",
        ),
    ],
)
def test_the_fastest_mode_that_fits_is_chosen(
    free_gb: float, ram_gb: float, changes: dict[str, Any], mode: MemoryMode | None
) -> None:
    choice = fitting(**changes).decide(room(free_gb, ram_gb))
    assert (choice.mode if isinstance(choice, MemoryPlan) else None) is mode
    assert choice.why


def test_a_misfit_says_whether_the_card_or_the_ram_is_too_small() -> None:
    short_of_ram, short_of_card = fitting().decide(room(16, 12)), fitting().decide(room(2))
    assert isinstance(short_of_ram, Misfit) and isinstance(short_of_card, Misfit)
    assert short_of_ram.short_of_ram and "19.1 GB of RAM, of which 12.0 GB" in short_of_ram.why
    assert not short_of_card.short_of_ram and "for a picture of 512x512" in short_of_card.why


@pytest.mark.parametrize(
    ("known", "mode"),
    [
        ({CARD: Known(at_least=25 * GB)}, OFFLOAD),
        ({CARD: Known(at_least=25 * GB), OFFLOAD: Known(at_least=25 * GB)}, STREAM),
        ({CARD: Known(expected=23 * GB, at_least=22 * GB)}, CARD),
        ({CARD: Known(expected=30 * GB)}, OFFLOAD),
    ],
    ids=["it failed before", "two modes failed", "measured below the estimate", "measured above it"],
)
def test_what_was_measured_counts_more_than_an_estimate(known: dict[MemoryMode, Known], mode: MemoryMode) -> None:
    choice = fitting(known=lambda one: known.get(one, Known())).decide(room(24))
    assert isinstance(choice, MemoryPlan) and choice.mode is mode


@pytest.mark.parametrize(
    ("mode", "own", "argv"),
    [
        (CARD, [], []),
        (OFFLOAD, [], ["--offload-to-cpu"]),
        (OFFLOAD, ["--offload-to-cpu"], []),
        (STREAM, [], ["--offload-to-cpu", "--max-vram", "4.5"]),
        (STREAM, ["--offload-to-cpu", "--max-vram", "2"], []),
    ],
)
def test_a_mode_adds_the_flags_that_an_entry_does_not_have(mode: MemoryMode, own: list[str], argv: list[str]) -> None:
    plan = fitting(modes=(mode,), forced=True).decide(room(8))
    assert isinstance(plan, MemoryPlan)
    assert plan.argv_beside(own) == argv


OTHERS = (Holder(7, "python", 20 * GB, 0.0),)


@pytest.mark.parametrize(
    ("free_gb", "total_gb", "changes", "outcome"),
    [
        (4, 24, {}, STREAM),
        (1, 24, {}, "waits"),
        (1, 24, {"modes": (CARD,)}, "waits"),
        (1, 24, {"modes": (CARD,), "forced": True}, "waits"),
        (3.9, 4, {"shape": LARGE}, STREAM),
        (0.1, 4, {"shape": LARGE}, "waits"),
        (9.9, 10, {"modes": (CARD,)}, "too large"),
        (16, 24, {"known": lambda _mode: Known(at_least=30 * GB)}, "too large"),
    ],
    ids=[
        *("a tighter mode needs no wait", "others hold it", "no other mode", "set by the operator, and held"),
        *("an estimate may be too high", "and others hold it", "weights larger than the card", "it failed before"),
    ],
)
def test_a_load_begins_or_waits_or_is_refused(
    free_gb: float, total_gb: float, changes: dict[str, Any], outcome: object
) -> None:
    card = Gpu("Test Card", int(total_gb * GB), int(free_gb * GB), None, OTHERS)
    choice = choose(fitting(**changes), card, 64 * GB)
    found = choice.mode if isinstance(choice, MemoryPlan) else "waits" if isinstance(choice, str) else "too large"
    assert found == outcome, choice


weights = st.builds(
    lambda parts: WeightSizes(sum(parts), max(parts), min(parts)),
    st.lists(st.integers(0, 40 * GB), min_size=1, max_size=4),
)
shapes = st.builds(lambda w, h: Shape(Kind.GENERATE, 16 * w, 16 * h), st.integers(4, 128), st.integers(4, 128))


@given(weights, shapes)
def test_each_mode_needs_no_more_of_the_card_than_the_one_before(of: WeightSizes, shape: Shape) -> None:
    needs = [estimate(mode, of, shape.pixels) for mode in MemoryMode]
    assert needs == sorted(needs, reverse=True) and needs[-1] >= MARGIN_BYTES


@given(weights, shapes, st.integers(0, 80 * GB), st.integers(0, 80 * GB), st.integers(0, 64 * GB))
def test_more_free_memory_never_makes_the_mode_tighter(of: WeightSizes, shape: Shape, a: int, b: int, ram: int) -> None:
    order = [*MemoryMode, None]

    def chosen(free: int) -> MemoryMode | None:
        choice = Fitting("m", of, tuple(MemoryMode), shape).decide(Room("Test Card", 80 * GB, free, ram))
        return choice.mode if isinstance(choice, MemoryPlan) else None

    assert order.index(chosen(max(a, b))) <= order.index(chosen(min(a, b)))


@given(weights, shapes, st.integers(0, 80 * GB), st.integers(0, 64 * GB), st.sampled_from(MemoryMode))
def test_a_chosen_mode_fits_and_is_as_tight_as_asked(
    of: WeightSizes, shape: Shape, free: int, ram: int, at: Any
) -> None:
    choice = Fitting("m", of, tuple(MemoryMode), shape).decide(Room("Test Card", 80 * GB, free, ram), at)
    if isinstance(choice, MemoryPlan):
        assert choice.need_bytes <= free
        assert list(MemoryMode).index(choice.mode) >= list(MemoryMode).index(at)
        assert choice.mode is CARD or ram >= of.total_bytes
        assert choice.budget_gib is None or choice.budget_gib * 1024**3 <= max(free, 0.1 * 1024**3)


@given(weights, shapes)
def test_tighter_modes_come_to_an_end(of: WeightSizes, shape: Shape) -> None:
    one, seen = Fitting("m", of, tuple(MemoryMode), shape), [CARD]
    while (mode := one.tighter(seen[-1])) is not None:
        seen.append(mode)
    assert seen == [CARD, OFFLOAD, STREAM]


def test_no_mode_is_expected_to_take_less_than_its_weights() -> None:
    """A driver that does not report the engine's share may be misread if another program gives memory back."""
    doubtful = fitting(known=lambda _mode: Known(expected=GB // 10))
    assert [doubtful.need_bytes(mode) for mode in MemoryMode] == [18 * GB, 12 * GB, GB // 4]

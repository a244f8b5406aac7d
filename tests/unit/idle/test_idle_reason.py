"""The idle policy's sentences: true of the gaps they speak of."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagegen.idle import reason
from imagegen.idle.policy import Evidence, after_first_start, after_gap, decide


def test_a_whole_sentence() -> None:
    evidence = after_first_start(Evidence(ended_at=0.0, knob=3.0, cold_start_s=40.0))
    for gap in [30.0, 55.0, 40.0, 61.0, 50.0] * 20:
        evidence = after_gap(evidence, gap, was_cold=False)
    assert decide(2.0, evidence).reason == (
        "unloads in 85 s: loading takes 40 s here, and requests usually come within a minute"
    )


@pytest.mark.parametrize(
    ("gaps", "timeout_s", "says"),
    [
        ((), 100, reason.UNKNOWN_HABIT),
        ((5.0,) * 4, 100, reason.UNKNOWN_HABIT),
        ((5.0,) * 5, 100, "requests usually come within 5 s"),
        ((55.0,) * 9, 85, "requests usually come within a minute"),
        ((4000.0,) * 9, 0, "requests usually come more than an hour apart"),
        ((4000.0,) * 9, 3600, "requests usually come more than an hour apart"),
        ((4000.0,) * 9, 3700, reason.IRREGULAR),
        ((10.0, 4000.0) * 9, 85, reason.IRREGULAR),
        ((1e7,) * 9, 85, "requests usually come more than a day apart"),
        ((4000.0,) * 50 + (5.0,) * 50, 10, "requests usually come within 5 s"),
    ],
)
def test_habits(gaps: tuple[float, ...], timeout_s: float, says: str) -> None:
    assert reason.habit(gaps, timeout_s) == says


@settings(deadline=None)
@given(st.lists(st.floats(0.01, 1e6), min_size=5, max_size=80), st.floats(0, 1e5))
def test_a_habit_is_true_of_most_of_the_last_gaps_and_fits_the_timeout(gaps: list[float], timeout_s: float) -> None:
    said = reason.habit(tuple(gaps), timeout_s)
    recent = gaps[-50:]
    for span_s, name in reason.SPANS:
        if said == f"requests usually come within {name}":
            assert span_s <= timeout_s
            assert sum(gap <= span_s for gap in recent) / len(recent) >= 0.6 - 1e-9
        if said == f"requests usually come more than {name} apart":
            assert span_s >= timeout_s
            assert sum(gap > span_s for gap in recent) / len(recent) >= 0.6 - 1e-9


@pytest.mark.parametrize(
    ("seconds", "says"),
    [
        (0.5, "0.5 s"),
        (2.0, "2 s"),
        (9.96, "10 s"),
        (85.4, "85 s"),
        (119.6, "120 s"),
        (121, "2 min"),
        (720, "12 min"),
        (10_000, "3 h"),
    ],
)
def test_durations(seconds: float, says: str) -> None:
    assert reason.duration(seconds) == says


@pytest.mark.parametrize(("seconds", "says"), [(-5.0, "unloads now"), (0.0, "unloads now"), (85.0, "unloads in 85 s")])
def test_when(seconds: float, says: str) -> None:
    assert reason.when(seconds) == says

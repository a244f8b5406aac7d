"""The texts of the idle policy's reasons. Pure.

Example: "unloads in 85 s: loading takes 40 s here, and requests usually come within a minute".
"""

from __future__ import annotations

FIXED_BY_LOAD = "the time-out is the worth of a load"
PRESENT = "a user is present"
GPU_WANTED = "another program wants the GPU's memory"
WARMED_UNUSED = "it was warmed up but has not been used"
DRAFTS = "it drew only drafts lately, and no user is present"
TOO_OFTEN = "it was unloaded too soon several times lately"
UNKNOWN_HABIT = "with few requests so far, the gaps of a public service count too"
IRREGULAR = "requests come too irregularly for another time-out to be better"

FEW = 5
"""The least number of gaps for a statement about a habit."""

LATELY = 50
"""A habit is derived from at most this many of the last gaps."""

USUALLY = 0.6
"""The share of these gaps that makes a habit."""

SPANS = (
    (1, "a second"), (2, "2 s"), (5, "5 s"), (10, "10 s"), (15, "15 s"), (20, "20 s"), (30, "30 s"),
    (45, "45 s"), (60, "a minute"), (90, "90 s"), (120, "2 minutes"), (180, "3 minutes"), (300, "5 minutes"),
    (600, "10 minutes"), (900, "15 minutes"), (1800, "half an hour"), (3600, "an hour"), (7200, "2 hours"),
    (21_600, "6 hours"), (86_400, "a day"),
)  # fmt: skip
"""Round durations in seconds, with their names."""


def duration(seconds: float) -> str:
    """Seconds as text, for example 0.5 s, 85 s, 12 min, 3 h."""
    if seconds < 10:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h"


def when(seconds: float) -> str:
    """The first part of a reason, for an unload in `seconds`."""
    return f"unloads in {duration(seconds)}" if seconds >= 0.05 else "unloads now"


def load(cold_start_s: float | None, assumed_s: float) -> str:
    if cold_start_s is None:
        return f"no load was measured here yet ({duration(assumed_s)} is assumed)"
    return f"loading takes {duration(cold_start_s)} here"


def habit(gaps: tuple[float, ...], timeout_s: float) -> str:
    """The part of a reason that explains a time-out of `timeout_s` by the recent gaps."""
    recent = gaps[-LATELY:]
    if len(recent) < FEW:
        return UNKNOWN_HABIT
    need = USUALLY * len(recent)
    for span_s, name in SPANS:
        if sum(gap <= span_s for gap in recent) >= need:
            if span_s <= timeout_s:
                return f"requests usually come within {name}"
            break
    for span_s, name in reversed(SPANS):
        if sum(gap > span_s for gap in recent) >= need:
            if span_s >= timeout_s:
                return f"requests usually come more than {name} apart"
            break
    return IRREGULAR

"""What the recent gaps between requests say of the next one, and which time-out is cheapest then.

Pure arithmetic for `imagegen.idle`. The next gap is taken to be like one of the recent gaps, most likely one
that followed a gap like the last (a burst goes on, a pause is followed by a pause), or like one of a public
service's while there are few of its own.
"""

from __future__ import annotations

from math import exp, log

MAX_GAPS = 200
"""Gaps remembered. With 50 or 500 the cost on the streams of docs/idle.md is the same within 0.1 %."""

PUBLIC_GAPS_S = (8, 14, 18, 21, 24, 27, 31, 36, 42, 50, 58, 71, 87, 106, 134, 187, 277, 541, 2175, 18975)
"""Twenty equally likely gaps of a public image service, where half of the gaps ended within 54 s, three
quarters within 154 s and nine tenths within 944 s (8,856 gaps of 109 users)."""

PUBLIC_WEIGHT = 6.0
"""The public gaps count as much as this many own ones. With 3 or 10 the cost there changes by 0.5 %."""

CONTEXT_SHARE = 0.8
"""Of a gap's weight, how much depends on whether it followed a gap like the last one."""

SPREAD = ((0.7, 0.25), (1.0, 0.5), (1.4, 0.25))
"""A gap of 50 s makes 35 s and 70 s likely too: (factor, share of the weight)."""


def likely_gaps(gaps: tuple[float, ...]) -> list[tuple[float, float]]:
    """The next gap's distribution as (seconds, weight), by rising seconds.

    `gaps`: the recent gaps in seconds, oldest first, each above 0.
    """
    points = [(float(gap), PUBLIC_WEIGHT / len(PUBLIC_GAPS_S)) for gap in PUBLIC_GAPS_S]
    recent = gaps[-MAX_GAPS:]
    logs = [log(gap) for gap in recent]
    for i, gap in enumerate(recent):
        alike = exp(-0.5 * (logs[i - 1] - logs[-1]) ** 2) if i else 0.0
        weight = 1 - CONTEXT_SHARE + CONTEXT_SHARE * alike
        points += [(gap * factor, weight * share) for factor, share in SPREAD]
    return sorted(points)


def cheapest_timeout_s(points: list[tuple[float, float]], beta_s: float, shortest_s: float, longest_s: float) -> float:
    """The time-out in [shortest_s, longest_s] with the lowest expected cost over `points`.

    A gap costs its own length if it ends within the time-out, else the time-out and `beta_s` for the cold
    start. Only the shortest time-out and the points themselves can be cheapest: between them the cost rises.
    """
    beyond = sum(weight for _, weight in points)
    paid = 0.0  # by the gaps that end within the time-out
    best_s, best_cost = shortest_s, float("inf")
    for seconds, weight in points:
        if seconds > longest_s:
            break
        if seconds > shortest_s and best_cost == float("inf"):
            best_cost = paid + beyond * (shortest_s + beta_s)
        paid += weight * seconds
        beyond -= weight
        if seconds > shortest_s:
            cost = paid + beyond * (seconds + beta_s)
            if cost < best_cost:
                best_s, best_cost = seconds, cost
    return best_s

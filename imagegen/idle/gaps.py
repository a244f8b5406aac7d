"""The distribution of the next gap between requests, from the recent gaps, and the cheapest time-out for it.

Pure arithmetic for `imagegen.idle`. The model: the next gap resembles one of the recent gaps. Those that followed a
gap like the last one have more weight, because bursts and pauses persist. While the service has few gaps of its own,
the gaps of a public service count too.
"""

from __future__ import annotations

from math import exp, log

MAX_GAPS = 200
"""Gaps kept. With 50 or 500 the cost on the streams of docs/idle.md is the same within 0.1 %."""

PUBLIC_GAPS_S = (8, 14, 18, 21, 24, 27, 31, 36, 42, 50, 58, 71, 87, 106, 134, 187, 277, 541, 2175, 18975)
"""Twenty equally likely gaps, in seconds, of a public image service. There 50 % of the gaps ended within 54 s, 75 %
within 154 s and 90 % within 944 s (8,856 gaps of 109 users)."""

PUBLIC_WEIGHT = 6.0
"""All public gaps together weigh as much as this many own gaps. With 3 or 10 the same cost changes by 0.5 %."""

CONTEXT_SHARE = 0.8
"""The share of a gap's weight that depends on whether it followed a gap like the last one."""

SPREAD = ((0.7, 0.25), (1.0, 0.5), (1.4, 0.25))
"""Each gap is spread over (factor, share of the weight): one of 50 s makes 35 s and 70 s likely too."""


def likely_gaps(gaps: tuple[float, ...]) -> list[tuple[float, float]]:
    """The distribution of the next gap as (seconds, weight), sorted by seconds.

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

    A gap that ends within the time-out costs its own length. A longer one costs the time-out, and `beta_s` for the
    cold start. Only `shortest_s` and the points can be optimal, because the cost rises between them.
    """
    beyond = sum(weight for _, weight in points)
    paid = 0.0  # cost of the gaps that end within the time-out
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

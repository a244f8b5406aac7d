"""The idle policy beside others on streams of many kinds, as the Markdown table in docs/idle.md.

    python benchmarks/idle_table.py [--seed 1] [--csv FILE]

A policy that suits one kind of stream can be bad on another: these are here so that a change of the learner is
judged by all of them. A cell reads adaptive / fixed 120 s / tau = beta / best constant, each J over OPT; the
best constant is the time-out in [0, 2 beta] that would have been cheapest, known afterwards, the same for all
lives of that kind.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable
from math import exp, log
from pathlib import Path

from idle_policy import UnusableFile, compare, idle_gaps, read_requests
from streams import streams

BETAS_S = (30.0, 60.0, 120.0, 300.0, 600.0)
LIVES = 40

Family = Callable[[random.Random, int], list[float]]
"""A function that returns this many gaps of one stream."""


def log_uniform(rng: random.Random, low: float, high: float) -> float:
    return exp(rng.uniform(log(low), log(high)))


def exponential(rng: random.Random, count: int) -> list[float]:
    mean_s = log_uniform(rng, 20, 2000)
    return [rng.expovariate(1 / mean_s) + 1 for _ in range(count)]


def pareto(rng: random.Random, count: int) -> list[float]:
    scale_s, shape = 60 * rng.lognormvariate(0, 0.7), rng.uniform(0.7, 1.6)
    return [1 + scale_s * (rng.paretovariate(shape) - 1) for _ in range(count)]


def bursts_and_quiet(rng: random.Random, count: int) -> list[float]:
    """Two lasting states, each with its own mean gap."""
    means_s = rng.uniform(10, 60), rng.uniform(300, 5000)
    leave = rng.uniform(0.03, 0.2), rng.uniform(0.2, 0.6)
    gaps, state = [], 0
    for _ in range(count):
        if rng.random() < leave[state]:
            state = 1 - state
        gaps.append(rng.expovariate(1 / means_s[state]) + 1)
    return gaps


def periodic(rng: random.Random, count: int) -> list[float]:
    period_s = log_uniform(rng, 10, 3000)
    return [period_s * rng.lognormvariate(0, 0.1) for _ in range(count)]


def changing(rng: random.Random, count: int) -> list[float]:
    """A new pace every 10 to 60 gaps."""
    gaps: list[float] = []
    while len(gaps) < count:
        pace_s = log_uniform(rng, 10, 2000)
        gaps += [pace_s * rng.lognormvariate(0, 0.6) for _ in range(rng.randint(10, 60))]
    return gaps[:count]


def alternating(rng: random.Random, count: int) -> list[float]:
    """Some short gaps, then a long one, repeatedly."""
    short_s, long_s, every = rng.uniform(5, 60), rng.uniform(300, 5000), rng.randint(2, 7)
    return [(short_s if i % every else long_s) * rng.lognormvariate(0, 0.3) for i in range(count)]


FAMILIES: dict[str, Family] = {
    "exponential": exponential,
    "Pareto": pareto,
    "bursts and quiet": bursts_and_quiet,
    "periodic": periodic,
    "changing pace": changing,
    "alternating": alternating,
}


def family_lives(family: Family, seed: int) -> list[list[float]]:
    rng = random.Random(seed)
    return [family(rng, max(1, min(400, round(rng.lognormvariate(log(40), 1.2))))) for _ in range(LIVES)]


def best_constant(lives: list[list[float]], beta_s: float) -> float:
    """J over OPT of the cheapest time-out in [0, 2 beta], the same for all streams."""
    gaps = sorted(gap for life in lives for gap in life)
    starts = beta_s * len(lives)
    opt_s = starts + sum(min(gap, beta_s) for gap in gaps)
    best_j, held_s = starts + beta_s * len(gaps), 0.0
    for count, gap in enumerate(gaps, start=1):
        if gap > 2 * beta_s:
            break
        held_s += gap
        best_j = min(best_j, starts + held_s + (len(gaps) - count) * (gap + beta_s))
    return best_j / opt_s


def row(name: str, lives: list[list[float]], seed: int) -> str:
    cells = []
    for beta_s in BETAS_S:
        ratio = {result["policy"]: result["J_over_opt"] for result in compare(lives, beta_s, seed)}
        others = (ratio["fixed 120"], ratio["tau = beta"], best_constant(lives, beta_s))
        cells.append(f"**{ratio['adaptive']:.2f}** / " + " / ".join(f"{other:.2f}" for other in others))
    return f"| {name} | " + " | ".join(cells) + " |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--csv", type=Path, help="streams of your own, as one more row")
    arguments = parser.parse_args()
    kinds = {"like a public service's": idle_gaps(streams(arguments.seed))}
    kinds |= {name: family_lives(family, arguments.seed) for name, family in FAMILIES.items()}
    if arguments.csv is not None:
        try:
            kinds[arguments.csv.name] = idle_gaps(read_requests(arguments.csv))
        except UnusableFile as unusable:
            print(f"idle_table.py: {unusable}", file=sys.stderr)
            return 2
    print("| streams | " + " | ".join(f"beta {beta_s:.0f} s" for beta_s in BETAS_S) + " |")
    print("|---" * (len(BETAS_S) + 1) + "|")
    for name, lives in kinds.items():
        print(row(name, lives, arguments.seed), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

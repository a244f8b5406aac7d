"""What the idle policy costs on recorded or generated streams of requests, beside other policies.

    python benchmarks/idle_policy.py --csv FILE --beta S [--json]

FILE has the columns stream,arrival_s,service_s: one row a request, seconds on any clock; each stream is
replayed as a life of its own through imagegen.idle.IdlePolicy, with what it has learned from that stream alone.
Without --csv the streams of streams.py (--seed) are replayed. --beta: idle GPU-seconds a cold start is worth.

A gap runs from the end of service to the next arrival; who arrives during service queues. J = idle seconds +
beta x cold starts, with a stream's first cold start and without the idle time after its last request; OPT is
the least possible J. Exit code 2: the file cannot be used, and a sentence says why.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from math import e, inf, isfinite, log1p
from pathlib import Path
from typing import Any

from streams import COLUMNS, Request, streams

from imagegen.idle.policy import Evidence, IdlePolicy, after_first_start, after_gap


class UnusableFile(Exception):
    """The CSV file cannot be replayed. The message says why."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A policy under test: the class, and the mode set before each gap."""

    name: str
    policy: IdlePolicy
    mode: Callable[[], str]


@dataclass(slots=True)
class Cost:
    cold: int = 0
    idle_s: float = 0.0

    def j_s(self, beta_s: float) -> float:
        return self.idle_s + beta_s * self.cold


def contenders(beta_s: float, seed: int) -> list[Contender]:
    rng = random.Random(seed)

    def randomised() -> str:
        # Density exp(x / beta) / (beta (e - 1)) on [0, beta]: e / (e - 1) = 1.58 times OPT on average.
        return repr(beta_s * log1p(rng.random() * (e - 1)))

    return [
        Contender("adaptive", IdlePolicy(), lambda: "auto"),
        Contender("fixed 120", IdlePolicy(), lambda: "120"),
        Contender("tau = beta", IdlePolicy(learning=False), lambda: "auto"),
        Contender("randomised", IdlePolicy(), randomised),
    ]


def read_requests(path: Path) -> list[Request]:
    """The rows of a CSV file. Raises UnusableFile."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            missing = [column for column in COLUMNS if column not in (rows.fieldnames or ())]
            if missing:
                raise UnusableFile(
                    f"{path} has no column {', '.join(missing)}: its first line must be {','.join(COLUMNS)}"
                )
            requests = [_request(path, rows.line_num, row) for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UnusableFile(f"{path} cannot be read: {error}") from error
    if not requests:
        raise UnusableFile(f"{path} has no requests below its first line")
    return requests


def _request(path: Path, line: int, row: dict[str, str | None]) -> Request:
    where = f"{path}, line {line}"
    try:
        arrival_s, service_s = float(row["arrival_s"] or ""), float(row["service_s"] or "")
    except ValueError:
        given = f"{row['arrival_s']!r} and {row['service_s']!r}"
        raise UnusableFile(f"{where}: arrival_s and service_s must be numbers, not {given}") from None
    if not isfinite(arrival_s):
        raise UnusableFile(f"{where}: arrival_s must be a finite number, not {arrival_s}")
    if not (isfinite(service_s) and service_s >= 0):
        raise UnusableFile(f"{where}: service_s must be finite and 0 or more, not {service_s}")
    return Request(row["stream"] or "", arrival_s, service_s)


def idle_gaps(requests: Iterable[Request]) -> list[list[float]]:
    """Each stream's idle gaps in seconds, in chronological order. Requests are served as they arrive."""
    by_stream: dict[str, list[Request]] = {}
    for request in requests:
        by_stream.setdefault(request.stream, []).append(request)
    lives = []
    for of_one in by_stream.values():
        gaps: list[float] = []
        free_s: float | None = None
        for request in sorted(of_one, key=lambda request: request.arrival_s):
            if free_s is not None and request.arrival_s > free_s:
                gaps.append(request.arrival_s - free_s)
            began_s = request.arrival_s if free_s is None else max(request.arrival_s, free_s)
            free_s = began_s + request.service_s
        lives.append(gaps)
    return lives


def replay(gaps: list[float], contender: Contender, beta_s: float) -> Cost:
    """Replay one stream. Gaps count from the end of service, so that large clock values lose no precision."""
    evidence = Evidence(ended_at=0.0, mode=contender.mode(), knob=1.0, cold_start_s=beta_s, max_s=inf)
    evidence = after_first_start(evidence)
    cost = Cost(cold=1)
    for gap_s in gaps:
        evidence = replace(evidence, mode=contender.mode())
        unload_at = contender.policy.decide(0.0, evidence).unload_at
        assert unload_at is not None
        cold, held_s = unload_at < gap_s, min(unload_at, gap_s)
        cost.cold += cold
        cost.idle_s += held_s
        evidence = after_gap(evidence, gap_s, cold, held_s)
    return cost


def compare(lives: list[list[float]], beta_s: float, seed: int = 1) -> list[dict[str, Any]]:
    """The costs of each contender over all streams."""
    opt_s = sum(beta_s + sum(min(gap_s, beta_s) for gap_s in gaps) for gaps in lives)
    results: list[dict[str, Any]] = []
    for contender in contenders(beta_s, seed):
        costs = [replay(gaps, contender, beta_s) for gaps in lives]
        total = Cost(sum(cost.cold for cost in costs), sum(cost.idle_s for cost in costs))
        j_s = total.j_s(beta_s)
        results.append(
            {
                "policy": contender.name,
                "cold": total.cold,
                "idle_s": round(total.idle_s, 3),
                "J": round(j_s, 3),
                "J_over_opt": round(j_s / opt_s, 4),
            }
        )
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--csv", type=Path, help="streams to replay; default: generated ones")
    parser.add_argument("--beta", type=float, required=True, metavar="S", help="above 0")
    parser.add_argument("--seed", type=int, default=1, help="of the generated streams and the randomised policy")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    if not (isfinite(arguments.beta) and arguments.beta > 0):
        parser.error(f"--beta must be a number of seconds above 0, not {arguments.beta}")
    try:
        requests = streams(arguments.seed) if arguments.csv is None else read_requests(arguments.csv)
    except UnusableFile as unusable:
        print(f"idle_policy.py: {unusable}", file=sys.stderr)
        return 2
    results = compare(idle_gaps(requests), arguments.beta, arguments.seed)
    if arguments.json:
        print(json.dumps({"policies": results}))
        return 0
    print(f"{'policy':12} {'cold':>7} {'idle_s':>12} {'J':>12} {'J/OPT':>7}")
    for result in results:
        name, cold, idle_s, j_s, ratio = result.values()
        print(f"{name:12} {cold:7} {idle_s:12.0f} {j_s:12.0f} {ratio:7.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

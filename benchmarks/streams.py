"""Seeded streams of requests like those of a public image service's users, as CSV on standard output.

    python benchmarks/streams.py --seed 1 > streams.csv

A user draws in bursts, with pauses within a sitting and long absences between sittings; each has habits of
their own, and most have few requests. Of such a service it is known that half of the idle gaps end within
54 s, three quarters within 154 s and nine tenths within 944 s (109 users, 8,856 gaps): the gaps are stretched
until that is so. How a user's gaps hang together is an assumption, made once, in `make_user` and `draw_gaps`.
"""

from __future__ import annotations

import argparse
import csv
import random
import sys
from bisect import bisect_right
from dataclasses import dataclass
from math import exp, log

COLUMNS = ("stream", "arrival_s", "service_s")

USERS = 109
QUANTILES = ((0.5, 54.0), (0.75, 154.0), (0.9, 944.0))
MAX_GAPS_OF_ONE = 1000
QUEUED = 0.1
"""Share of requests that are sent while the previous one is still running."""


@dataclass(frozen=True, slots=True)
class User:
    """One user's habits."""

    gaps: int
    pace_s: float  # median gap within a burst
    pause: float  # share of gaps that are pauses
    absence: float  # share of gaps that are absences
    persistence: float  # chance that the next gap is of the last one's kind


@dataclass(frozen=True, slots=True)
class Request:
    stream: str
    arrival_s: float
    service_s: float


def make_user(rng: random.Random) -> User:
    return User(
        gaps=min(MAX_GAPS_OF_ONE, round(rng.lognormvariate(log(35), 1.35))),  # 81 on average
        pace_s=rng.lognormvariate(log(36), 0.4),
        pause=rng.betavariate(2, 9),
        absence=rng.betavariate(1.2, 10.5),
        persistence=rng.uniform(0.1, 0.4),
    )


def draw_gaps(rng: random.Random, user: User) -> list[float]:
    """Seconds from the end of each picture to the user's next request, before stretching."""
    gaps = []
    kind = "burst"
    for _ in range(user.gaps):
        if rng.random() > user.persistence:
            draw = rng.random() - user.absence
            kind = "absence" if draw < 0 else "pause" if draw < user.pause else "burst"
        if kind == "burst":
            gaps.append(rng.lognormvariate(log(user.pace_s), 0.65))
        elif kind == "pause":
            gaps.append(rng.lognormvariate(log(5 * user.pace_s), 0.7))
        else:
            gaps.append(rng.lognormvariate(log(5000), 1.5))
    return gaps


class Stretch:
    """A monotonic map of seconds that gives `drawn` the known quantiles; log-linear between them."""

    def __init__(self, drawn: list[float]) -> None:
        ordered = sorted(drawn) or [1.0]
        self.xs = [log(ordered[int(share * (len(ordered) - 1))]) for share, _ in QUANTILES]
        self.ys = [log(seconds) for _, seconds in QUANTILES]

    def __call__(self, seconds: float) -> float:
        x, xs, ys = log(seconds), self.xs, self.ys
        i = bisect_right(xs, x)
        if i == 0 or i == len(xs):
            end = min(i, len(xs) - 1)
            return exp(x - xs[end] + ys[end])
        share = (x - xs[i - 1]) / (xs[i] - xs[i - 1])
        return exp(ys[i - 1] + share * (ys[i] - ys[i - 1]))


def requests_of(rng: random.Random, name: str, gaps: list[float]) -> list[Request]:
    """Requests with these gaps from the end of service to the next arrival, including queued requests."""
    requests: list[Request] = []
    arrival_s = rng.uniform(0, 86_400)
    free_s = arrival_s
    for gap in [*gaps, 0.0]:
        while True:
            service_s = round(rng.lognormvariate(log(20), 0.5), 1)
            requests.append(Request(name, round(arrival_s, 1), service_s))
            began_s = max(round(arrival_s, 1), free_s)
            free_s = began_s + service_s
            if rng.random() >= QUEUED:
                break
            arrival_s = rng.uniform(began_s, free_s)
        arrival_s = free_s + gap
    return requests


def streams(seed: int, users: int = USERS) -> list[Request]:
    """All users' requests, user by user. The same seed gives the same requests."""
    rng = random.Random(seed)
    drawn = [draw_gaps(rng, make_user(rng)) for _ in range(users)]
    stretch = Stretch([gap for gaps in drawn for gap in gaps])
    return [
        request
        for i, gaps in enumerate(drawn)
        for request in requests_of(rng, f"user{i:03d}", [stretch(gap) for gap in gaps])
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--users", type=int, default=USERS)
    arguments = parser.parse_args()
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(COLUMNS)
    for request in streams(arguments.seed, arguments.users):
        writer.writerow((request.stream, request.arrival_s, request.service_s))


if __name__ == "__main__":
    main()

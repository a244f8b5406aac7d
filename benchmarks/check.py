"""`make bench-check`: the goals of docs/performance.md, measured now; exit 1 if one is missed."""

from __future__ import annotations

import sys

from overhead import measure

GOALS = [
    ("a picture through the service ÷ the engine driven directly", ("ratio", "median"), 1.06),
    ("submit to the engine at work, model loaded, s", ("accept_s", "median"), 0.030),
    ("first picture from cold ÷ sd-server spawned by hand", ("cold_ratio", "median"), 1.05),
    ("processor at rest, % of one core", ("rest_cpu_percent",), 1.5),
    ("memory at rest, MB", ("rest_memory_mb",), 300.0),
]


def main() -> int:
    result = measure(pairs=30, colds=7, rest_s=60)
    missed = 0
    for what, path, most in GOALS:
        value = result
        for key in path:
            value = value[key]
        met = float(value) <= most
        missed += not met
        print(f"{'ok    ' if met else 'MISSED'}  {what}: {value} (at most {most})")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

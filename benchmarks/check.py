"""`make bench-check`: measure the goals of docs/performance.md. Exit code 1 if one is missed."""

from __future__ import annotations

import sys

import coldstart
from overhead import measure
from slow_disk import Speed, why_not

GOALS = [
    ("a picture through the service ÷ the engine driven directly", ("ratio", "median"), 1.06),
    ("submit to the engine at work, model loaded, s", ("accept_s", "median"), 0.030),
    ("first picture from cold ÷ sd-server spawned by hand", ("cold_ratio", "median"), 1.05),
    ("processor at rest, % of one core", ("rest_cpu_percent",), 1.5),
    ("memory at rest, MB", ("rest_memory_mb",), 300.0),
]


FAR_DISK = Speed(bytes_per_s=100e6, latency_s=0.005)
LOADS = [
    ("a load from the page cache, service ÷ sd-server by hand", "page cache", "service_over_bare", 1.05),
    ("a load from a disk of 100 MB/s and 5 ms, service ÷ by hand", str(FAR_DISK), "service_over_bare", 1.05),
    ("the same, reading ahead ÷ not", str(FAR_DISK), "service_over_plain", 0.9),
]


def met(what: str, value: float, most: float) -> bool:
    print(f"{'ok    ' if value <= most else 'MISSED'}  {what}: {value} (at most {most})", flush=True)
    return value <= most


def loads() -> list[bool]:
    """Measure the goals of loads. Loads from a disk need a SlowDisk; if there can be none, print why."""
    reason = why_not()
    disks = [] if reason else [FAR_DISK]
    found = coldstart.measure(gb=0.8, rounds=5, threads=[1], disks=disks)["threads"]["1"]
    if reason:
        print(f"not measured  loads from a disk: {reason}")
    return [met(what, found[disk][ratio]["median"], most) for what, disk, ratio, most in LOADS if disk in found]


def main() -> int:
    result = measure(pairs=30, colds=7, rest_s=60)
    all_met = []
    for what, path, most in GOALS:
        value = result
        for key in path:
            value = value[key]
        all_met.append(met(what, float(value), most))
    return 0 if all(all_met + loads()) else 1


if __name__ == "__main__":
    sys.exit(main())

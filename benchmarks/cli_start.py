"""How long the command line takes to start: `python benchmarks/cli_start.py [URL] [--check]`.

Compares `imagegen --help` and `imagegen status` with a bare `python -c pass`, started in turn. Prints wall time and
processor time in ms, medians, and the ratio to the bare start. URL: a running service for `status`; without it nothing
answers, and `status` ends with that sentence, having imported the same. Bytecode is cached, as after an installation.
--check: exit code 1 if a goal of docs/performance.md is missed (wall time: only on a machine with little other work).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
ROUNDS = 15
GOAL_MS = 150.0
NO_SERVICE = "http://127.0.0.1:9"


def start(arguments: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Wall time and processor time of one process in ms."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, _, used = os.wait4(process.pid, 0)
    return (time.perf_counter() - began) * 1000, (used.ru_utime + used.ru_stime) * 1000


def measure(url: str) -> dict[str, dict[str, float]]:
    """Medians of each command, and their ratio to the bare start."""
    commands = {
        "bare": ["-c", "pass"],
        "help": ["-m", "imagegen.cli", "--help"],
        "status": ["-m", "imagegen.cli", "status", "--url", url],
    }
    with tempfile.TemporaryDirectory() as bytecode:
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment = kept | {"PYTHONPYCACHEPREFIX": bytecode}
        for arguments in commands.values():  # writes the bytecode
            start(arguments, environment)
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for _ in range(ROUNDS):
            for name, arguments in commands.items():
                times[name].append(start(arguments, environment))
    bare_wall, bare_cpu = (median(column) for column in zip(*times["bare"], strict=True))
    found = {}
    for name, pairs in times.items():
        wall, cpu = (median(column) for column in zip(*pairs, strict=True))
        found[name] = {
            "wall_ms": round(wall, 1),
            "cpu_ms": round(cpu, 1),
            "wall_ratio": round(wall / bare_wall, 2),
            "cpu_ratio": round(cpu / bare_cpu, 2),
        }
    return found


def main() -> int:
    """Measure and print. Returns the exit code."""
    named = [word for word in sys.argv[1:] if not word.startswith("-")]
    found = measure(named[0] if named else NO_SERVICE)
    print(json.dumps(found, indent=2))
    missed = [name for name in ("help", "status") if found[name]["wall_ms"] > GOAL_MS]
    return 1 if missed and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())

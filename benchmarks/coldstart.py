"""What a cold start costs: from the page cache and from a disk, by hand and through the service.

    python benchmarks/coldstart.py [--gb 1.5] [--rounds 5] [--threads 1 2] [--disk 100,1 --disk 100,5] [--json]

On synthetic weights made in a temporary folder (a Qwen-Image of several blocks). A load is timed from asking for it
until the engine answers. Three ways take turns, so that a machine whose speed drifts does not matter: `bare`, sd-server
spawned by hand; `service`; and `plain`, the service with IMAGEGEN_READ_AHEAD=false. Ratios are medians of neighbours.

`--disk MB/S,MS` puts the files on a disk of that bandwidth and latency (benchmarks/slow_disk.py: needs root, and
ends with the reason where that cannot be). Without it the disk is the temporary folder's own, whose speed nobody knows
on a virtual machine. Before a load from a disk the files are dropped from the page cache, and that they are out is
checked (mincore).
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests/support"))

from bare import Bare  # noqa: E402
from page_cache import cached_share, drop, fetch  # noqa: E402
from served import Service  # noqa: E402
from slow_disk import SlowDisk, Speed, why_not  # noqa: E402

from imagegen import engine_build  # noqa: E402
from imagegen.models.catalog import Catalog  # noqa: E402
from imagegen.models.synthetic import qwen  # noqa: E402
from imagegen.settings import Settings  # noqa: E402

MODEL = "qwen-tiny"
BASE_BYTES, BLOCK_BYTES = 795e6, 191e6
"""The size of the model's files with one block, and of each further block."""
START_LIMIT_S = 300.0  # of the service, whose start is not measured
KEPT_SHARE = 0.001
"""The share of a file that may stay in the page cache: a page or two, as another process reads the header."""


@dataclass(frozen=True)
class Ways:
    """The compared ways to load, on the same files."""

    bare: Bare
    service: Service
    plain: Service

    def load(self, name: str) -> float:
        return load_by_hand(self.bare) if name == "bare" else load_by_service(getattr(self, name))


SERVICES = ("service", "plain")
WAYS = ("bare", *SERVICES)


def make_weights(folder: Path, gb: float) -> list[Path]:
    """Write the model's files, about `gb` GB, into `folder`."""
    blocks = max(1, round((gb * 1e9 - BASE_BYTES) / BLOCK_BYTES) + 1)
    folder.mkdir()
    files = []
    for name, gguf in qwen.files(blocks=blocks).items():
        gguf.write(folder / name, lambda _bytes: None)
        files.append(folder / name)
    return files


def drop_all(files: list[Path]) -> None:
    """Drop the files from the page cache. Raises SystemExit if some pages stay."""
    for path in files:
        drop(path)
    kept = {path.name: share for path in files if (share := cached_share(path)) > KEPT_SHARE}
    if kept:
        raise SystemExit(f"still in the page cache, so this would be no load from the disk: {kept}")


def load_by_hand(bare: Bare) -> float:
    """Seconds from spawning sd-server until it answers. Ends it afterwards."""
    try:
        return bare.load()
    finally:
        bare.unload()


def load_by_service(service: Service) -> float:
    """Seconds from the warm-up request until the event that the engine is ready."""
    with service.http.stream("GET", "/api/events") as events:
        lines = events.iter_lines()
        next(line for line in lines if line.startswith("data: "))
        began = time.perf_counter()
        service.http.post("/api/warm").raise_for_status()
        next(line for line in lines if line.startswith("data: ") and '"state":"ready"' in line.replace(" ", ""))
        took = time.perf_counter() - began
    service.http.post("/api/unload").raise_for_status()
    return took


def put(models: Path, folder: Path) -> None:
    """Link the model's files in `models` into the folder of each service."""
    for name in SERVICES:
        link = folder / name / "models" / MODEL
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(models, target_is_directory=True)


@contextmanager
def stand(folder: Path, threads: int) -> Iterator[Ways]:
    """The ways, on the model's files that `put` has linked."""
    binary = engine_build.resolve(Settings())
    services = {}
    try:
        for name in SERVICES:
            own = {"idle_timeout": "never", "threads": threads, "model": MODEL, "read_ahead": name == "service"}
            services[name] = Service(folder / name, binary, own)
            services[name].start(START_LIMIT_S)
        settings = Settings(home=folder / "service")
        argv = Catalog.load(settings).get(MODEL).argv(settings)
        yield Ways(Bare([str(binary), *argv, "-t", str(threads)], folder / "bare"), **services)
    finally:
        for service in services.values():
            service.end()


def spread(values: list[float]) -> dict[str, float]:
    return {
        "least": round(min(values), 3),
        "median": round(statistics.median(values), 3),
        "most": round(max(values), 3),
    }


def compare(ways: Ways, before: Callable[[], None], rounds: int) -> dict[str, Any]:
    """Run the ways in turn, `rounds` times, each after `before`. Returns seconds and the service's ratios."""
    took: dict[str, list[float]] = {name: [] for name in WAYS}
    for turn in range(rounds):
        for name in WAYS[turn % 3 :] + WAYS[: turn % 3]:  # no way is always the first
            before()
            took[name].append(ways.load(name))

    def over(name: str) -> dict[str, float]:
        return spread([ours / theirs for ours, theirs in zip(took["service"], took[name], strict=True)])

    return {f"{name}_s": spread(seconds) for name, seconds in took.items()} | {
        "service_over_bare": over("bare"),
        "service_over_plain": over("plain"),
    }


def measure(gb: float, rounds: int, threads: list[int], disks: list[Speed], cached: bool = True) -> dict[str, Any]:
    """Measure each disk (by default the temporary folder's) and the page cache, with each number of threads."""
    with tempfile.TemporaryDirectory(prefix="imagegen-coldstart-") as name:
        folder = Path(name)
        files = make_weights(folder / "weights", gb)
        result: dict[str, Any] = {"bytes": sum(path.stat().st_size for path in files), "rounds": rounds, "threads": {}}
        put(folder / "weights", folder)
        for count in threads:
            found = result["threads"].setdefault(str(count), {})
            with stand(folder, count) as ways:
                if cached:
                    found["page cache"] = compare(ways, lambda: [fetch(path) for path in files], rounds)
                if not disks:
                    found["this disk"] = compare(ways, lambda: drop_all(files), rounds)
                for speed in disks:
                    disk = folder / "disk"
                    slow = [disk / path.name for path in files]
                    with SlowDisk(files, disk, speed):
                        put(disk, folder)
                        found[str(speed)] = compare(ways, lambda slow=slow: drop_all(slow), rounds)
                    put(folder / "weights", folder)
        return result


def a_speed(text: str) -> Speed:
    """`100,5`: 100 MB/s and 5 ms."""
    try:
        mb_per_s, latency_ms = map(float, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not MB/S,MS, such as 100,5") from None
    if not (mb_per_s > 0 and latency_ms >= 0):
        raise argparse.ArgumentTypeError(f"{text!r}: a disk has a bandwidth above 0 and a latency of 0 or more")
    return Speed(mb_per_s * 1e6, latency_ms / 1e3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gb", type=float, default=1.5, help="size of the weights, at least 0.8 (default 1.5)")
    parser.add_argument("--rounds", type=int, default=5, help="loads of each kind (default 5)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="engine threads to try (default 1 2)")
    parser.add_argument(
        "--disk", type=a_speed, action="append", default=[], metavar="MB/S,MS", help="a disk of known speed (root)"
    )
    parser.add_argument("--no-cache", action="store_true", help="leave the loads from the page cache out")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    arguments = parser.parse_args()
    if arguments.disk and (reason := why_not()) is not None:
        raise SystemExit(f"--disk: {reason}.")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    result = measure(arguments.gb, arguments.rounds, arguments.threads, arguments.disk, not arguments.no_cache)
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    print(f"weights {result['bytes'] / 1e9:.2f} GB, {result['rounds']} rounds")
    for count, kinds in result["threads"].items():
        for kind, found in kinds.items():
            for name, value in found.items():
                print(f"threads {count}  {kind:16} {name:18} {value}")


if __name__ == "__main__":
    main()

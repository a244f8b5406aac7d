"""What a cold start costs: from the page cache and from the disk, by hand and through the service.

    python benchmarks/coldstart.py [--gb 1.5] [--rounds 5] [--threads 1 2] [--json]

On synthetic weights made in a temporary folder (a Qwen-Image of several blocks). A load is timed from asking for it
until the engine answers; the ways take turns, so that a machine whose speed drifts does not matter. `service`
over `bare` is the median of the pairs. `read_ahead`: sd-server by hand, its files being read by
`imagegen.readahead` at the same time. Before a load from the disk the files are dropped from the page cache
(POSIX_FADV_DONTNEED); `from_disk_share` says how much of them the engine and the reader then fetched from storage,
where the kernel tells.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from served import Service, free_port  # noqa: E402

from imagegen import engine  # noqa: E402
from imagegen.models import synthetic, synthetic_qwen  # noqa: E402
from imagegen.models.catalog import Catalog  # noqa: E402
from imagegen.readahead import ReadAhead  # noqa: E402
from imagegen.settings import Settings  # noqa: E402

MODEL = "qwen-tiny"
BASE_BYTES, BLOCK_BYTES = 795e6, 191e6
"""The model's files with one block, and what each further one adds."""
POLL_S = 0.01


def make_weights(home: Path, gb: float) -> list[Path]:
    """The model's files under `home`, about `gb` GB of them, on the disk and not only on their way to it."""
    blocks = max(1, round((gb * 1e9 - BASE_BYTES) / BLOCK_BYTES) + 1)
    synthetic.MADE["qwen"] = lambda: synthetic_qwen.files(blocks=blocks)
    files = sorted(synthetic.make(MODEL, Settings(home=home)).glob("*.gguf"))
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())
    return files


def drop(files: list[Path]) -> None:
    """Out of the page cache."""
    for path in files:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def fetch(files: list[Path]) -> None:
    """Into the page cache."""
    for path in files:
        with path.open("rb", buffering=0) as file:
            while file.read(1 << 23):
                pass


class Bare:
    """sd-server spawned by hand, with what the service would give it."""

    def __init__(self, binary: Path, argv: list[str], threads: int, workdir: Path) -> None:
        self.port = free_port()
        (workdir / "loras").mkdir(parents=True, exist_ok=True)
        self._command = [
            str(binary), *argv, "--listen-ip", "127.0.0.1", "--listen-port", str(self.port), "-t", str(threads),
            "--lora-model-dir", str(workdir / "loras"),
        ]  # fmt: skip
        self._workdir = workdir
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", trust_env=False)

    def load(self) -> tuple[float, int]:
        """Seconds until it answers, and bytes it fetched from storage; ended after."""
        environment = {"PATH": os.environ["PATH"], "GGML_NO_BACKTRACE": "1"}
        began = time.perf_counter()
        with (self._workdir / "bare.log").open("ab") as log:
            process = subprocess.Popen(self._command, cwd=self._workdir, env=environment, stdout=log, stderr=log)
        try:
            while not self._answers():
                if process.poll() is not None:
                    raise SystemExit(f"sd-server ended with {process.returncode}: see {log.name}")
                time.sleep(POLL_S)
            return time.perf_counter() - began, storage_bytes(process.pid)
        finally:
            process.kill()
            process.wait()

    def _answers(self) -> bool:
        try:
            return self._http.get("/v1/models").status_code == 200
        except httpx.TransportError:
            return False


def storage_bytes(pid: int) -> int:
    try:
        return int(psutil.Process(pid).io_counters().read_bytes)
    except (psutil.Error, OSError):
        return 0


def load_by_service(service: Service) -> tuple[float, int]:
    """Seconds from asking the service to load until it tells its readers that the engine is ready."""
    with service.http.stream("GET", "/api/events") as events:
        lines = events.iter_lines()
        next(line for line in lines if line.startswith("data: "))
        began = time.perf_counter()
        service.http.post("/api/warm").raise_for_status()
        next(line for line in lines if line.startswith("data: ") and '"state":"ready"' in line.replace(" ", ""))
        took = time.perf_counter() - began
    read = storage_bytes(service.engine_pid or 0)
    service.http.post("/api/unload").raise_for_status()
    return took, read


@contextmanager
def stand(home: Path, threads: int) -> Iterator[tuple[Service, Bare]]:
    argv = Catalog.load(Settings(home=home)).get(MODEL).argv(Settings(home=home))
    binary = engine.resolve(Settings())
    service = Service(home, binary, {"idle_timeout": "never", "threads": threads, "model": MODEL})
    service.start()
    try:
        yield service, Bare(binary, argv, threads, home / "bare")
    finally:
        service.end()


def spread(values: list[float]) -> dict[str, float]:
    return {
        "least": round(min(values), 3),
        "median": round(statistics.median(values), 3),
        "most": round(max(values), 3),
    }


def compare(files: list[Path], service: Service, bare: Bare, before: Callable[[], None], rounds: int) -> dict[str, Any]:
    """Each way `rounds` times in turns, `before` each; seconds, and the service's ratio to its neighbour."""
    total = sum(path.stat().st_size for path in files)
    took: dict[str, list[float]] = {"bare": [], "read_ahead": [], "service": []}
    from_disk: dict[str, list[float]] = {name: [] for name in took}
    for _ in range(rounds):
        for name in took:
            before()
            if name == "service":
                seconds, read = load_by_service(service)
            elif name == "bare":
                seconds, read = bare.load()
            else:
                ahead = ReadAhead(files, lambda: psutil.virtual_memory().available)
                seconds, read = bare.load()
                ahead.stop()
                read += ahead.from_storage_bytes
            took[name].append(seconds)
            from_disk[name].append(read / total)
    pairs = list(zip(took["service"], took["bare"], strict=True))
    return {f"{name}_s": spread(seconds) for name, seconds in took.items()} | {
        "service_over_bare": spread([ours / theirs for ours, theirs in pairs]),
        "from_disk_share": {name: round(statistics.median(shares), 2) for name, shares in from_disk.items()},
    }


def measure(gb: float, rounds: int, threads: list[int]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="imagegen-coldstart-") as folder:
        home = Path(folder) / "home"
        files = make_weights(home, gb)
        result: dict[str, Any] = {"bytes": sum(path.stat().st_size for path in files), "rounds": rounds, "threads": {}}
        for count in threads:
            with stand(home, count) as (service, bare):
                result["threads"][str(count)] = {
                    "cached": compare(files, service, bare, lambda: fetch(files), rounds),
                    "from_disk": compare(files, service, bare, lambda: drop(files), rounds),
                }
        return result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--gb", type=float, default=1.5, help="size of the weights, at least 0.8 (default 1.5)")
    parser.add_argument("--rounds", type=int, default=5, help="loads of each kind (default 5)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="engine threads to try (default 1 2)")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    result = measure(arguments.gb, arguments.rounds, arguments.threads)
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    print(f"weights {result['bytes'] / 1e9:.2f} GB, {result['rounds']} rounds")
    for count, kinds in result["threads"].items():
        for kind, found in kinds.items():
            for name, value in found.items():
                print(f"threads {count}  {kind:10} {name:18} {value}")


if __name__ == "__main__":
    main()

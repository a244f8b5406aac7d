"""The price of the service: the same picture through HTTP, queue and store, and from the engine driven directly.

    python benchmarks/overhead.py [--pairs 30] [--json]

Both ways use the same machine, binary, flags, threads and model. They take turns and each pair has its own ratio, so
that a drift of the machine's speed does not matter. The direct driver polls every 5 ms. Prints `ratio N`, the median of
the pairs. Also measures the time from submit to the engine's acceptance with the model loaded, a first picture from
cold against sd-server started directly, and the load at rest.
"""

from __future__ import annotations

import argparse
import io
import json
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests/support"))

from bare import Bare  # noqa: E402
from served import Service, until  # noqa: E402

from imagegen import engine_build  # noqa: E402
from imagegen.models.catalog import Catalog  # noqa: E402
from imagegen.models.synthetic import make as synthetic  # noqa: E402
from imagegen.prompts.guardrails import Guardrails, compose  # noqa: E402
from imagegen.settings import Settings  # noqa: E402

SIZE_PX, STEPS = 128, 4
TOLD = compose(Guardrails(), "a red circle", "", 1.0)
"""The prompts that the service sends to the engine. The direct driver sends the same, for equal pictures."""


def drawn(direct: Bare, seed: int) -> bytes:
    """Draw the picture of `through_service` directly with the engine."""
    return direct.draw(
        {
            "prompt": TOLD.prompt, "negative_prompt": TOLD.negative, "width": SIZE_PX, "height": SIZE_PX, "seed": seed,
            "sample_params": {"sample_steps": STEPS, "sample_method": "euler", "guidance": {"txt_cfg": 1.0}},
        }
    )  # fmt: skip


def timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def through_service(service: Service, seed: int) -> bytes:
    """Submit, wait by long-polls and fetch the PNG, as a client does."""
    job = service.http.post(
        "/api/generate",
        json={"prompt": "a red circle", "width": SIZE_PX, "height": SIZE_PX, "steps": STEPS, "seed": seed},
    ).json()
    while job["status"] in {"queued", "running"}:
        job = service.http.get(f"/api/jobs/{job['job_id']}", params={"wait": 50}).json()
    if job["status"] != "complete":
        raise SystemExit(f"the job failed: {job['error']}")
    return service.png(job)


@contextmanager
def stand(home: Path) -> Iterator[tuple[Service, Bare]]:
    settings = Settings(home=home)
    synthetic.make("tiny", settings)
    binary = engine_build.resolve(Settings())
    argv = Catalog.load(settings).get("tiny").argv(settings)
    service = Service(home, binary, {"idle_timeout": "never"})
    direct = Bare([str(binary), *argv, "-t", "1"], home / "direct")
    service.start()
    try:
        yield service, direct
    finally:
        direct.unload()
        service.end()


def pixels(png: bytes) -> bytes:
    return Image.open(io.BytesIO(png)).convert("RGB").tobytes()


def quartiles(values: list[float]) -> dict[str, float]:
    low, middle, high = statistics.quantiles(values, n=4)
    return {"q1": round(low, 4), "median": round(middle, 4), "q3": round(high, 4)}


def measure(pairs: int, colds: int, rest_s: float) -> dict[str, Any]:
    with (
        tempfile.TemporaryDirectory(prefix="imagegen-bench-") as folder,
        stand(Path(folder) / "home") as (
            service,
            direct,
        ),
    ):
        cold = [cold_pair(service, direct) for _ in range(colds)]
        direct.load()
        if pixels(drawn(direct, 0)) != pixels(through_service(service, 0)):
            raise SystemExit("the two ways draw different pictures: their times cannot be compared")
        ours, theirs = [], []
        for seed in range(pairs):
            ours.append(timed(lambda seed=seed: through_service(service, seed)))
            theirs.append(timed(lambda seed=seed: drawn(direct, seed)))
        result: dict[str, Any] = {
            "size_px": SIZE_PX, "steps": STEPS, "pairs": pairs,
            "service_s": quartiles(ours), "direct_s": quartiles(theirs),
            "ratio": quartiles([a / b for a, b in zip(ours, theirs, strict=True)]),
            "cold_ratio": quartiles([a / b for a, b in cold]),
            "cold_service_s": quartiles([a for a, _ in cold]),
            "accept_s": quartiles([acceptance(service) for _ in range(10)]),
        }  # fmt: skip
        direct.unload()
        result |= at_rest(service, rest_s)
        return result


def cold_pair(service: Service, direct: Bare) -> tuple[float, float]:
    """The first picture without a running engine: through the service, and with sd-server started directly."""
    service.http.post("/api/unload")
    ours = timed(lambda: through_service(service, 1))
    service.http.post("/api/unload")

    def by_hand() -> None:
        direct.load()
        drawn(direct, 1)

    theirs = timed(by_hand)
    direct.unload()
    return ours, theirs


def acceptance(service: Service) -> float:
    """Seconds from the submit until the engine has the job, seen as CPU time of its worker thread."""
    engine_process = psutil.Process(service.engine_pid or 0)
    before = sum(engine_process.cpu_times()[:2])
    began = time.perf_counter()
    job = service.submit(width=SIZE_PX, height=SIZE_PX, steps=STEPS)
    until(lambda: sum(engine_process.cpu_times()[:2]) > before, "the engine works", every=0.001)
    took = time.perf_counter() - began
    service.ended(job["job_id"])
    return took


def at_rest(service: Service, seconds: float) -> dict[str, Any]:
    """The resource usage of the service's processes without an engine and a client."""
    service.http.post("/api/unload")
    processes = service.processes()
    before = sum(sum(p.cpu_times()[:2]) for p in processes)
    time.sleep(seconds)
    used = sum(sum(p.cpu_times()[:2]) for p in processes) - before
    memory = sum(p.memory_full_info().uss for p in processes)
    return {"rest_cpu_percent": round(100 * used / seconds, 2), "rest_memory_mb": round(memory / 1e6, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--pairs", type=int, default=30, help="interleaved pairs (default 30)")
    parser.add_argument("--colds", type=int, default=5, help="pairs of first pictures from cold (default 5)")
    parser.add_argument("--rest", type=float, default=60.0, help="seconds at rest (default 60)")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    result = measure(arguments.pairs, arguments.colds, arguments.rest)
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    for name, value in result.items():
        print(f"{name:18} {value}")
    print(f"ratio {result['ratio']['median']}")


if __name__ == "__main__":
    main()

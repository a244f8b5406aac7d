"""What the service answers while 1,000 jobs wait: submits, status reads, and probes beside 300 open connections.

    python benchmarks/http_load.py [--jobs 1000] [--readers 300] [--json] [--check]

The engine is a stand-in that never becomes ready, here and nowhere else: the first job stays at loading and all
others wait, so that what is measured is the service alone. The clients run beside it on the same machine, and their
work is in the numbers. Half of the readers are long-polls of one job each, half are event streams; while they are
open the queue is also changed, so that every stream has something to say. `--check` exits with 1 on a missed goal.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import insert

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests/support"))

from served import Service  # noqa: E402

from imagegen.models.synthetic import make as synthetic  # noqa: E402
from imagegen.settings import Settings  # noqa: E402
from imagegen.storage.database import open_database  # noqa: E402
from imagegen.storage.tables import measurements  # noqa: E402

STAND_IN = '#!/bin/sh\ncase "$*" in *--help*) exit 0 ;; esac\nexec sleep 86400\n'
SUBMITS, READ_S, READERS_AT_ONCE, PROBES, CHANGES, SETTLE_S = 300, 5.0, 4, 200, 20, 2.0


@dataclass(frozen=True)
class Row:
    """One measurement. `goal` None: reported without a goal. `at_least`: the goal is a minimum."""

    what: str
    value: float
    unit: str
    goal: float | None = None
    at_least: bool = False

    @property
    def missed(self) -> bool:
        if self.goal is None:
            return False
        return self.value < self.goal if self.at_least else self.value > self.goal


def percentile(values: list[float], share: float) -> float:
    """The smallest value with at least `share` of all values at or below it."""
    ordered = sorted(values)
    return ordered[max(0, -(-int(len(ordered) * share * 1000) // 1000) - 1)]


async def timed(ask: Callable[[], Awaitable[httpx.Response]], status: int) -> float:
    """Milliseconds until the whole answer has arrived."""
    began = time.perf_counter()
    answer = await ask()
    took = (time.perf_counter() - began) * 1000
    if answer.status_code != status:
        raise SystemExit(f"{answer.request.method} {answer.request.url} answered {answer.status_code}: {answer.text}")
    return took


class Load:
    """The clients, with one connection pool to one service."""

    def __init__(self, url: str) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=50)
        self.http = httpx.AsyncClient(base_url=url, timeout=120, limits=limits, trust_env=False)
        self.jobs: list[str] = []

    async def submit(self) -> float:
        body = {"prompt": "a red circle", "width": 64, "height": 64, "steps": 1}

        async def ask() -> httpx.Response:
            answer = await self.http.post("/api/generate", json=body)
            self.jobs.append(answer.json().get("job_id", ""))
            return answer

        return await timed(ask, 202)

    async def fill(self, jobs: int) -> float:
        """Submit from eight clients at once until `jobs` are queued. Returns submits per second."""
        began = time.perf_counter()

        async def one(share: int) -> None:
            for _ in range(share):
                await self.submit()

        shares = [jobs // 8 + (number < jobs % 8) for number in range(8)]
        await asyncio.gather(*(one(share) for share in shares))
        return jobs / (time.perf_counter() - began)

    async def reads_per_s(self) -> float:
        """Read random jobs from a few clients at once. Returns reads per second."""
        done, until = 0, time.perf_counter() + READ_S
        choose = random.Random(1)

        async def reader() -> None:
            nonlocal done
            while time.perf_counter() < until:
                await timed(lambda: self.http.get(f"/api/jobs/{choose.choice(self.jobs)}"), 200)
                done += 1

        await asyncio.gather(*(reader() for _ in range(READERS_AT_ONCE)))
        return done / READ_S

    async def probes(self) -> list[float]:
        """Milliseconds of each of many sequential /readyz requests."""
        taken = []
        for _ in range(PROBES):
            taken.append(await timed(lambda: self.http.get("/readyz"), 200))
            await asyncio.sleep(0.02)
        return taken

    async def open_readers(self, count: int) -> list[asyncio.Task[None]]:
        """Open long-polls and event streams. Returns once all of them wait."""
        heard = asyncio.Semaphore(0)

        async def poll(job_id: str) -> None:
            heard.release()
            while True:
                await self.http.get(f"/api/jobs/{job_id}", params={"wait": 50})

        async def stream(path: str) -> None:
            async with self.http.stream("GET", path, timeout=None) as answer:
                first = True
                async for _line in answer.aiter_lines():
                    if first:
                        heard.release()
                    first = False

        waiting = self.jobs[1:]
        tasks = []
        for number in range(count):
            job_id = waiting[number % len(waiting)]
            paths = (f"/api/jobs/{job_id}/events", f"/api/jobs/{job_id}/events", "/api/events")
            work = poll(job_id) if number % 2 else stream(paths[number // 2 % 3])
            tasks.append(asyncio.create_task(work))
        for _ in tasks:
            await asyncio.wait_for(heard.acquire(), 60)
        await asyncio.sleep(SETTLE_S)  # a long-poll sends nothing when it begins
        return tasks

    async def change_queue(self) -> None:
        """Cancel queued jobs, so that the jobs behind them move up and every job's stream has to send an event."""
        for job_id in self.jobs[-CHANGES:]:
            await timed(lambda job_id=job_id: self.http.delete(f"/api/jobs/{job_id}"), 200)
            await asyncio.sleep(0.1)


async def measure(url: str, jobs: int, readers: int) -> list[Row]:
    load = Load(url)
    rows = [Row(f"fill the queue with {jobs} jobs", await load.fill(jobs), "/s")]
    submits = [await load.submit() for _ in range(SUBMITS)]
    rows.append(Row("submit, p50", percentile(submits, 0.5), "ms"))
    rows.append(Row("submit, p99", percentile(submits, 0.99), "ms", 60))
    rows.append(Row("status reads", await load.reads_per_s(), "/s", 300, at_least=True))
    tasks = await load.open_readers(readers)
    quiet = await load.probes()
    rows.append(Row(f"/readyz beside {readers} readers, p50", percentile(quiet, 0.5), "ms"))
    rows.append(Row(f"/readyz beside {readers} readers, p99", percentile(quiet, 0.99), "ms", 100))
    busy, _ = await asyncio.gather(load.probes(), load.change_queue())
    rows.append(Row("the same while the queue changes, p50", percentile(busy, 0.5), "ms"))
    rows.append(Row("the same while the queue changes, p99", percentile(busy, 0.99), "ms", 100))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await load.http.aclose()
    return rows


async def remember(settings: Settings) -> None:
    """Store past measurements, so that the service computes an ETA for every job."""
    database = await open_database(settings.database)
    async with database.writing() as connection:
        for what in ("load", "encode", "step", "decode", "gap"):
            row = {"model": "tiny", "what": what, "pixels": 0 if what == "load" else 64 * 64, "seconds": 0.1}
            await connection.execute(insert(measurements), [row | {"at": time.time()} for _ in range(20)])
    await database.close()


def run(jobs: int, readers: int) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="imagegen-bench-") as folder:
        home, stand_in = Path(folder) / "home", Path(folder) / "sd-server"
        stand_in.write_text(STAND_IN)
        stand_in.chmod(0o755)
        settings = Settings(home=home)
        synthetic.make("tiny", settings)
        asyncio.run(remember(settings))
        most = jobs + SUBMITS + 100
        service = Service(home, stand_in, {"max_queue": most, "load_timeout_s": 3600, "log_level": "WARNING"})
        try:
            service.start()
            return asyncio.run(measure(service.url, jobs, readers))
        finally:
            service.end()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1000, help="jobs that wait (default 1000)")
    parser.add_argument("--readers", type=int, default=300, help="open connections (default 300)")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument("--check", action="store_true", help="exit 1 if a goal is missed")
    arguments = parser.parse_args()
    load_before = os.getloadavg()[0]
    rows = run(arguments.jobs, arguments.readers)
    missed = [row.what for row in rows if row.missed]
    if arguments.json:
        result: dict[str, Any] = {"cpus": os.cpu_count(), "load_before": load_before, "missed": missed}
        print(json.dumps(result | {"rows": [asdict(row) for row in rows]}, indent=2))
    else:
        print(f"{os.cpu_count()} CPUs, load {load_before:.1f} before the start")
        for row in rows:
            sign = "≥" if row.at_least else "≤"
            goal = "" if row.goal is None else f"goal {sign} {row.goal:g}{'  MISSED' if row.missed else ''}"
            print(f"{row.what:<46} {row.value:9.1f} {row.unit:<3} {goal}".rstrip())
    return 1 if arguments.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())

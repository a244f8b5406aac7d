"""How fast a running picture makes way: from DELETE to the first step of the next job, with the model loaded.

    python benchmarks/cancel.py [--model sketch] [--rounds 10] [--steps 8] [--json]

Submits two jobs and deletes the first after some steps. Records when the engine gets the request for the second, when
its sampling begins after the text encoding, and when its first step is done. The service runs in this process, so that
these times are exact; requests use its HTTP routes. Also measures a step of an undisturbed picture. Prints the medians.
`makes_way` is the time from DELETE until the engine gets the request for the next picture. Its goal is at most one step
plus 50 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import httpx

from imagegen import engine_build
from imagegen.app import App
from imagegen.engines.base import DrawProgress
from imagegen.engines.http_process import HttpSubprocessAdapter
from imagegen.http.asgi import attach, make_app
from imagegen.http.routes.session import Sessions
from imagegen.models.synthetic import make as synthetic
from imagegen.schemas import Phase
from imagegen.settings import Settings
from imagegen.telemetry.metrics import Metrics

SPARE_S = 0.05  # of the goal, in addition to one step
LONG_STEPS = 100  # of the deleted picture


class Moments:
    """The times at which each picture of the engine reached each stage, in seconds of perf_counter."""

    def __init__(self) -> None:
        self.pictures: list[dict[str, float]] = []
        self._news = asyncio.Event()

    def watch(self) -> None:
        """Record the progress of every picture from now on."""
        moments, generate = self, HttpSubprocessAdapter.generate

        async def watched(adapter: Any, request: Any, on_progress: Any, on_preview: Any = None) -> bytes:
            picture = {"asked": perf_counter()}
            moments.pictures.append(picture)

            def hear(progress: DrawProgress) -> None:
                moments.note(picture, progress)
                on_progress(progress)

            return await generate(adapter, request, hear, on_preview)

        HttpSubprocessAdapter.generate = watched  # type: ignore[method-assign]

    def note(self, picture: dict[str, float], progress: DrawProgress) -> None:
        name = f"step {progress.step}" if progress.step else progress.phase.value
        picture.setdefault(name, perf_counter())
        self._news.set()

    async def reached(self, number: int, name: str) -> float:
        """Wait until picture `number` reaches `name`. Returns the time."""
        while len(self.pictures) <= number or name not in self.pictures[number]:
            self._news.clear()
            await self._news.wait()
        return self.pictures[number][name]


async def submitted(client: httpx.AsyncClient, model: str, steps: int) -> str:
    answer = await client.post("/api/generate", json={"prompt": "a red circle", "model": model, "steps": steps})
    return str(answer.raise_for_status().json()["job_id"])


async def ended(client: httpx.AsyncClient, job_id: str) -> None:
    while (await client.get(f"/api/jobs/{job_id}?wait=30")).json()["status"] in {"queued", "running"}:
        pass


async def measure(model: str, rounds: int, steps: int, home: Path) -> dict[str, Any]:
    settings = Settings(home=home, sd_server=engine_build.resolve(Settings()), model=model, idle_timeout="never")
    synthetic.make(model, settings)
    app, moments = App(settings), Moments()
    moments.watch()
    asgi = make_app(Sessions(None, home / "key"), Metrics())
    await app.start()
    try:
        attach(asgi, app)
        transport = httpx.ASGITransport(app=asgi)
        async with httpx.AsyncClient(transport=transport, base_url="http://benchmark", timeout=None) as client:
            await ended(client, await submitted(client, model, steps))  # loads the model
            parts = [await once(client, moments, model, steps) for _ in range(rounds)]
    finally:
        await app.stop()
    medians = {name: round(statistics.median(part[name] for part in parts), 4) for name in parts[0]}
    goal_s = round(medians["step"] + SPARE_S, 4)
    return {"model": model, "rounds": rounds} | medians | {"goal": goal_s, "met": medians["makes_way"] <= goal_s}


async def once(client: httpx.AsyncClient, moments: Moments, model: str, steps: int) -> dict[str, float]:
    number = len(moments.pictures)
    first = await submitted(client, model, LONG_STEPS)
    second = await submitted(client, model, steps)
    began = await moments.reached(number, "step 2")
    until = await moments.reached(number, "step 4")
    deleted = perf_counter()
    (await client.delete(f"/api/jobs/{first}")).raise_for_status()
    await moments.reached(number + 1, "step 1")
    following = moments.pictures[number + 1]
    await ended(client, second)
    return {
        "step": (until - began) / 2,
        "makes_way": following["asked"] - deleted,
        "encodes": following[Phase.SAMPLING.value] - following["asked"],
        "first_step": following["step 1"] - following[Phase.SAMPLING.value],
        "delete_to_first_step_done": following["step 1"] - deleted,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="sketch")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=8, help="of the second job (default 8)")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="imagegen-bench-") as folder:
        result = asyncio.run(measure(arguments.model, arguments.rounds, arguments.steps, Path(folder) / "home"))
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    for name, value in result.items():
        print(f"{name:26} {value}{' s' if isinstance(value, float) else ''}")


if __name__ == "__main__":
    main()

"""A seeded random walk of submits, cancels, kills and restarts on each engine; then the invariants.

Twenty seconds of the first one in `make test`, an hour of each in `make test-long`; IMAGEGEN_CHAOS_S and
IMAGEGEN_CHAOS_SEED choose another time and another walk for the latter.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import signal
import time
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from engines import Engine, second_engine_long
from PIL import Image
from served import Service, until

LONG_S = float(os.environ.get("IMAGEGEN_CHAOS_S") or 3600)
SEED = int(os.environ.get("IMAGEGEN_CHAOS_SEED", "20261123"))
WISHES = [("a red circle", 1), ("a red circle", 2), ("a green tree", 1), ("a blue box", 3)]
MOST_WAITING = 6
MOST_KILLS = 4
"""In a row, without a picture in between: a job can be given up, and a slow machine draws pictures too."""


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


class Walk:
    """One service, what was asked of it, and what has been seen."""

    def __init__(self, service: Service, breath_s: float, seed: int) -> None:
        self.service, self.breath_s, self.dice = service, breath_s, random.Random(seed)
        self.right = {wish: pixels(service.png(service.draw(wish[0], seed=wish[1]))) for wish in WISHES}
        self.asked: dict[str, tuple[str, int]] = {}  # job id → wish, in order of submission
        self.seen: dict[str, str] = {}  # job id → the end it was seen to have
        self.processes: set[psutil.Process] = set()  # with their start: in an hour, numbers are used again
        self.cancelled: set[str] = set()
        self.done: dict[str, int] = {}
        self.kills = self.kills_in_a_row = 0

    def step(self) -> None:
        waiting = [job for job in self.asked if job not in self.seen]
        may_kill = self.kills_in_a_row < MOST_KILLS
        kills = {self.kill_engine: 3, self.kill_worker: 1, self.kill_everything: 1, self.kill_supervisor: 1}
        actions = {
            self.submit: 24 if len(waiting) < MOST_WAITING else 0,
            self.look: 16,
            self.cancel: 2 if waiting else 0,
            **{kill: weight if may_kill else 0 for kill, weight in kills.items()},
            self.stop_and_start: 1,
            self.unload: 1,
            self.warm: 1,
        }
        action = self.dice.choices(list(actions), list(actions.values()))[0]
        self.note_processes()
        self.kills += action in kills
        self.kills_in_a_row += action in kills
        self.done[action.__name__] = self.done.get(action.__name__, 0) + 1
        action()

    # ---- what happens -------------------------------------------------------------------------

    def submit(self) -> None:
        """Until it is answered, whoever dies meanwhile; the key makes it one job."""
        wish = self.dice.choice(WISHES)
        key = f"{len(self.asked)}-{self.dice.random()}"
        request = {"prompt": wish[0], "seed": wish[1], "width": 64, "height": 64, "steps": 2}
        answer = self.answered("POST", "/api/generate", json=request, headers={"idempotency-key": key})
        assert answer.status_code == 202, answer.text
        self.asked[answer.json()["job_id"]] = wish

    def look(self) -> None:
        for job_id in list(self.asked)[-5:]:
            self.read(job_id)
        time.sleep(self.dice.uniform(0, 2 * self.breath_s))

    def cancel(self) -> None:
        job_id = self.dice.choice([job for job in self.asked if job not in self.seen])
        self.cancelled.add(job_id)
        assert self.answered("DELETE", f"/api/jobs/{job_id}").status_code == 200
        self.read(job_id)
        assert job_id in self.seen, "a cancelled job has ended"

    def kill_engine(self) -> None:
        pid = self.answered("GET", "/api/status").json()["engine"]["pid"]
        if pid is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(pid).kill()

    def kill_worker(self) -> None:
        self.service.worker.kill()

    def kill_everything(self) -> None:
        self.service.kill()
        self.service.restart()

    def kill_supervisor(self) -> None:
        self.service.supervisor.kill()
        self.service.wait()
        self.service.restart()

    def stop_and_start(self) -> None:
        self.service.supervisor.send_signal(signal.SIGTERM)
        self.service.wait()
        self.service.restart()

    def unload(self) -> None:
        assert self.answered("POST", "/api/unload").status_code in {202, 409}

    def warm(self) -> None:
        """Left out for a while (503) after a load that was killed, and ended by jobs and unloads."""
        with contextlib.suppress(httpx.TransportError):
            assert self.service.http.post("/api/warm").status_code in {202, 409, 429, 502, 503}

    # ---- what is seen -------------------------------------------------------------------------

    def answered(self, method: str, path: str, **how: Any) -> httpx.Response:
        """The first answer that is not of a service that just died or starts."""
        answers: list[httpx.Response] = []

        def answers_now() -> bool:
            with contextlib.suppress(httpx.TransportError):
                answer = self.service.http.request(method, path, **how)
                if answer.status_code not in {502, 503}:
                    answers.append(answer)
            return bool(answers)

        until(answers_now, f"{method} {path} is answered")
        return answers[0]

    def read(self, job_id: str) -> dict[str, Any]:
        answer = self.answered("GET", f"/api/jobs/{job_id}")
        assert answer.status_code == 200, "an accepted job is never lost"
        job: dict[str, Any] = answer.json()
        if job_id in self.seen:
            assert job["status"] == self.seen[job_id], "a job ends once"
        elif job["status"] in {"complete", "failed", "cancelled"}:
            self.seen[job_id] = job["status"]
            if job["status"] == "complete":
                self.kills_in_a_row = 0
        return job

    def note_processes(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            self.processes |= set(self.service.processes())

    # ---- what must hold -----------------------------------------------------------------------

    def settle(self) -> list[dict[str, Any]]:
        until(lambda: all(self.read(j)["status"] not in {"queued", "running"} for j in self.asked), "all end", 240)
        return [self.read(job_id) for job_id in self.asked]

    def check(self) -> None:
        jobs = self.settle()
        complete = [job for job in jobs if job["status"] == "complete"]
        assert complete and len(complete) >= self.kills / MOST_KILLS - 1, [job["status"] for job in jobs]
        for job in jobs:
            if job["status"] == "cancelled":
                assert job["job_id"] in self.cancelled
            elif job["status"] == "failed":  # only what was killed three times, or could not load
                assert job["error"]["code"] in {"engine_died", "gave_up"}, job
        ends = [job["finished_at"] for job in complete]
        assert ends == sorted(ends), "jobs end in the order they came"
        for job in complete:
            assert np.array_equal(pixels(self.service.png(job)), self.right[self.asked[job["job_id"]]])
        known = {item["job_id"] for item in self.service.http.get("/api/jobs", params={"limit": 200}).json()["items"]}
        assert len(self.asked) + len(WISHES) > 195 or len(known) == len(self.asked) + len(WISHES), "no job came twice"
        self.note_processes()
        self.service.terminate()
        self.service.wait()
        assert not [one for one in self.processes if not ended(one)], "no process is left"
        owned = {f"{image['id']}.png" for job in complete for image in job["images"]}
        files = {path.name for path in (self.service.home / "images").iterdir()}
        assert owned <= files, "no picture without its file"
        assert len(files) == len(owned) + len(WISHES), "no file without its picture"


def ended(process: psutil.Process) -> bool:
    """Whether the process has ended. A zombie has."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@second_engine_long
@pytest.mark.parametrize("seconds", [10.0, pytest.param(LONG_S, marks=pytest.mark.long)])
def test_nothing_is_lost_whatever_dies(serve_drawer, drawer: Engine, seconds: float) -> None:
    service = serve_drawer(idle_timeout="2", image_ttl=100 * seconds)  # no job expires meanwhile
    walk = Walk(service, drawer.breath_s, SEED)
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            walk.step()
        walk.check()
    finally:
        print(f"seed {SEED}: {walk.done}, {len(walk.asked)} jobs")

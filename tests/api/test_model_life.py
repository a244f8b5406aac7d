"""The model's life under faults: who dies when, who asks at the wrong moment, what is replaced.

Tests of `second_engine_long` run on the second engine too, in `make test-long`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from engines import Engine, first_engine, second_engine_long
from event_stream import listening
from held_engine import Held, HeldEngine
from served import Service, gone, until
from warm_ups import until_warmed

from imagegen.models.synthetic import klein


def same_moment(*calls: Callable[[], Any]) -> list[Any]:
    """What the calls return, made by a thread each at the same moment."""
    together = threading.Barrier(len(calls))

    def make(call: Callable[[], Any]) -> Any:
        together.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(make, calls))


def post(service: Service, path: str, **how: Any) -> httpx.Response:
    """With a connection of its own: threads must not wait for each other's."""
    with httpx.Client(base_url=service.url, timeout=60, trust_env=False) as http:
        return http.post(path, **how)


def small(seed: int = 1) -> dict[str, Any]:
    return {"prompt": "a red circle", "width": 64, "height": 64, "steps": 2, "seed": seed}


# ---- loading ------------------------------------------------------------------------------------


@second_engine_long
def test_requests_that_race_to_load_share_one_engine(life: Service, held: Held) -> None:
    before = held.starts
    held.hold()
    answers = same_moment(
        lambda: post(life, "/api/generate", json=small(1)),
        lambda: post(life, "/api/warm"),
        lambda: post(life, "/api/generate", json=small(2)),
        lambda: post(life, "/api/warm"),
    )
    assert [answer.status_code for answer in answers] == [202] * 4
    life.until_state("loading")
    held.let_go()
    jobs = [life.ended(answers[index].json()["job_id"]) for index in (0, 2)]
    assert [(job["status"], job["attempts"]) for job in jobs] == [("complete", 1)] * 2
    assert held.starts == before + 1


@second_engine_long
def test_while_it_loads_it_is_not_unloaded_and_says_so(life: Service, held: Held) -> None:
    held.hold()
    job = life.submit()
    status = life.until_state("loading")
    assert status["engine"]["load"]["fraction"] == 0
    assert status["idle"]["unload_at"] is None
    refused = life.http.post("/api/unload")
    assert (refused.status_code, refused.json()["code"]) == (409, "busy")
    assert life.job(job["job_id"])["progress"]["phase"] == "loading"
    held.let_go()
    assert life.ended(job["job_id"])["status"] == "complete"


@second_engine_long
def test_an_engine_that_dies_while_loading_is_started_again_for_its_job(life: Service, held: Held) -> None:
    held.hold()
    job = life.submit()
    life.until_state("loading")
    until(lambda: life.engine_pid is not None, "there is a process")
    pid = life.engine_pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: life.engine_pid not in {None, pid}, "another one is started")
    held.let_go()
    ended = life.ended(job["job_id"])
    assert (ended["status"], ended["attempts"], len(ended["images"])) == ("complete", 2, 1)


@second_engine_long
def test_a_warm_up_that_dies_leaves_nothing_and_the_next_job_loads(life: Service, held: Held) -> None:
    held.hold()
    assert life.http.post("/api/warm").status_code == 202
    until(lambda: life.engine_pid is not None, "there is a process")
    os.kill(life.engine_pid or 0, signal.SIGKILL)
    status = life.until_state("failed")
    assert status["engine"]["pid"] is None
    assert status["engine"]["error"]["code"] == "engine_died"
    again = until_warmed(life, None, 503)
    assert again.json()["code"] == "engine_died"
    assert "next try is due in" in again.json()["detail"]
    assert int(again.headers["retry-after"]) >= 1
    held.let_go()
    held.change()
    assert life.draw()["attempts"] == 1


def test_a_long_load_is_no_dead_one_and_one_that_stands_still_is(serve, tmp_path: Path, sd_server: Path) -> None:
    engine = HeldEngine(tmp_path / "engine", sd_server)
    service = serve(sd_server=engine.path, load_timeout_s=2, idle_timeout="never")
    engine.crawl()  # 4 s, twice what may pass without a sign of life
    job = service.submit()
    status = service.until_state("loading")
    until(lambda: (service.status()["engine"]["load"] or {}).get("bytes_done") is not None, "bytes are told")
    load = service.status()["engine"]["load"]
    assert 0 < load["bytes_done"] < load["bytes_total"]
    assert load["eta_s"] == pytest.approx((load["bytes_total"] - load["bytes_done"]) / (2 * 1024**2), abs=0.06)
    assert service.ended(job["job_id"])["status"] == "complete", "it was slow and came to its end"

    service.http.post("/api/unload")
    engine.hold()
    failed = service.ended(service.submit()["job_id"])
    assert failed["error"]["code"] == "load_failed"
    assert "stood still" in failed["error"]["detail"]
    assert service.status()["engine"]["pid"] is None
    assert status["engine"]["model"] == "tiny"


# ---- unloading ----------------------------------------------------------------------------------


@second_engine_long
def test_a_request_at_the_very_moment_of_unloading_is_served_once(life: Service, held: Held) -> None:
    life.draw()
    for seed in range(3):
        submitted, unloaded = same_moment(
            lambda seed=seed: post(life, "/api/generate", json=small(seed)), lambda: post(life, "/api/unload")
        )
        assert submitted.status_code == 202 and unloaded.status_code in {202, 409}
        job = life.ended(submitted.json()["job_id"])
        assert (job["status"], job["attempts"], len(job["images"])) == ("complete", 1, 1)


@second_engine_long
def test_an_engine_that_dies_at_the_moment_of_unloading_is_just_gone(life: Service) -> None:
    for _ in range(2):
        life.draw()
        pid = life.engine_pid
        assert pid is not None
        _, unloaded = same_moment(lambda pid=pid: os.kill(pid, signal.SIGKILL), lambda: post(life, "/api/unload"))
        assert unloaded.status_code == 202
        assert life.until_state("cold")["engine"]["error"] is None
        assert gone(pid)
    assert life.draw()["attempts"] == 1


@second_engine_long
def test_with_a_time_out_of_nothing_every_picture_has_its_engine(serve_drawer) -> None:
    service = serve_drawer(idle_timeout="0")
    for seed in range(3):  # the next comes while the last one's engine is being ended
        job = service.draw(seed=seed)
        assert (job["attempts"], len(job["images"])) == (1, 1)
    assert service.until_state("cold")["engine"]["pid"] is None


# ---- files --------------------------------------------------------------------------------------


@first_engine
def test_files_that_were_replaced_count_from_the_next_load_on(life: Service) -> None:
    folder = life.home / "models" / "twin"
    weights = next(folder.glob("dit*"))
    whole = weights.read_bytes()
    try:
        first = life.unsigned(life.draw(model="twin", seed=7))
        klein.files(seed=99)[weights.name].write(folder / "new", lambda _count: None)
        (folder / "new").replace(weights)
        assert life.unsigned(life.draw(model="twin", seed=7)) == first, "what is loaded is what it draws with"
        life.http.post("/api/unload")
        assert life.unsigned(life.draw(model="twin", seed=7)) != first
    finally:
        weights.write_bytes(whole)


@second_engine_long
def test_files_that_are_gone_are_named_and_used_again_when_back(life: Service, drawer: Engine) -> None:
    (weights,) = (life.home / "models" / "twin").glob(drawer.main_file)
    aside = weights.with_suffix(".aside")
    assert life.draw(model="twin")["status"] == "complete"
    weights.rename(aside)
    try:
        life.http.post("/api/unload")
        missing = life.http.post("/api/generate", json=small() | {"model": "twin"})
        assert (missing.status_code, missing.json()["code"]) == (422, "model_missing")
        assert weights.name in missing.json()["detail"]
        loaded = life.draw()
        pid = life.engine_pid
        assert (loaded["model"], until_warmed(life, "twin", 422).json()) == (drawer.model, missing.json())
        engine = life.status()["engine"]
        assert (engine["state"], engine["model"], engine["pid"], engine["error"]) == ("ready", drawer.model, pid, None)
    finally:
        aside.rename(weights)
    assert life.draw(model="twin")["status"] == "complete"


# ---- what is reported -------------------------------------------------------------------------------


@first_engine
def test_the_reason_is_a_sentence_in_the_status_and_on_the_command_line(life: Service) -> None:
    life.draw()
    life.until_state("ready")
    assert life.status()["idle"]["reason"] == "stays loaded: IMAGEGEN_IDLE_TIMEOUT is never"
    command = [sys.executable, "-m", "imagegen.cli", "status", "--url", life.url]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "stays loaded: IMAGEGEN_IDLE_TIMEOUT is never" in told.stdout, told.stderr


@first_engine
def test_it_is_warmed_up_and_unloaded_from_the_command_line(life: Service, drawer: Engine, held: Held) -> None:
    def told(*command: str) -> str:
        arguments = [sys.executable, "-m", "imagegen.cli", *command, "--url", life.url]
        return subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=True).stdout

    held.hold()
    began = told("warm", "--model", "twin")
    assert began.startswith("twin is loading.\n")
    assert "engine  loading since" in began and "0% loaded" in began
    held.let_go()
    life.until_state("ready")
    assert told("warm", "--model", "twin").startswith("twin is already loaded.\n")
    held.hold()
    job = life.submit()
    life.until_state("loading")
    assert told("warm", "--model", "twin").startswith("twin is loaded after the jobs that came first.\n")
    held.let_go()
    assert life.ended(job["job_id"])["status"] == "complete"
    until(lambda: life.status()["engine"]["model"] == "twin", "the warm-up was not forgotten")
    life.until_state("ready")
    assert "engine  cold" in told("unload")
    assert life.engine_pid is None


def test_who_has_the_page_open_keeps_the_model_a_beta_longer_and_no_more(serve) -> None:
    service = serve(idle_timeout="auto", idle_knob=600)
    service.draw()
    alone = service.until_state("ready")["idle"]
    assert alone["reason"].startswith("unloads in ")
    with listening(service, "/api/events?presence=0"):
        assert "a user is present" not in service.status()["idle"]["reason"], "it is open, and nobody looks"
    with listening(service, "/api/events?presence=1") as stream:
        told = next(event.data for event in stream if event.name == "status")
        present = service.status()["idle"]
        assert "a user is present" in present["reason"] and told["idle"]["reason"] is not None
        later_s = seconds(present["unload_at"]) - seconds(alone["unload_at"])
        assert 0 < later_s <= present["beta_s"] + 1
    until(lambda: "a user is present" not in service.status()["idle"]["reason"], "no user is present")
    assert seconds(service.status()["idle"]["unload_at"]) == pytest.approx(seconds(alone["unload_at"]), abs=1)


def seconds(rfc3339: str) -> float:
    return datetime.fromisoformat(rfc3339).timestamp()


@second_engine_long
def test_states_can_be_watched_from_cold_to_cold(life: Service) -> None:
    with listening(life, "/api/events") as stream:
        states = [next(event.data["engine"]["state"] for event in stream if event.name == "status")]
        job = life.submit()
        life.ended(job["job_id"])
        life.http.post("/api/unload")
        while states[-1] != "cold" or len(states) == 1:
            event = next(stream)
            if event.name == "status" and event.data["engine"]["state"] != states[-1]:
                states.append(event.data["engine"]["state"])
    assert (states[0], states[-1]) == ("cold", "cold")
    assert {"loading", "ready"} <= set(states), "snapshots of what lasts; what is over in an instant may be missed"

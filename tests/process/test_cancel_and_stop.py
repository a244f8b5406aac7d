"""Cancels, leases, keys, and the orderly stop."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from pathlib import Path

import httpx
import psutil
import pytest
from engines import Engine, second_engine_long
from held_engine import held_load, without_channel
from served import ENDLESS, Service, gone, until

LONG = {"width": 128, "height": 128, "steps": 100}


def test_a_queued_job_is_cancelled_at_once_and_never_runs(service: Service) -> None:
    with service.at_work() as running:
        queued = service.submit("a green tree")
        cancelled = service.http.delete(f"/api/jobs/{queued['job_id']}").json()
        assert (cancelled["status"], cancelled["attempts"]) == ("cancelled", 0)
        again = service.http.delete(f"/api/jobs/{queued['job_id']}")
        assert (again.status_code, again.json()["status"]) == (200, "cancelled")
    assert service.ended(running["job_id"])["status"] == "complete"
    assert service.job(queued["job_id"])["attempts"] == 0


@second_engine_long
def test_a_running_job_is_cancelled_and_the_model_stays_loaded(serve_drawer, drawer: Engine) -> None:
    service = serve_drawer(idle_timeout="never", max_job_s=86_400)  # an endless job is not too large for a slow machine
    service.draw()
    pid = service.engine_pid
    job = service.submit(**drawer.endless)
    service.until_drawing(job["job_id"])
    assert service.http.delete(f"/api/jobs/{job['job_id']}").json()["status"] == "cancelled"
    after = service.draw("what comes after")
    assert (after["status"], after["attempts"]) == ("complete", 1)
    assert service.engine_pid == pid is not None
    assert service.job(job["job_id"])["images"] == []
    assert len(list((service.home / "images").glob("*"))) == 2, "a cancelled job keeps no picture"


@pytest.mark.parametrize("known", [True, False])
def test_an_engine_without_a_channel_is_ended_or_drained(serve, sd_server: Path, tmp_path: Path, known: bool) -> None:
    service = serve(sd_server=without_channel(tmp_path, sd_server), idle_timeout="never")
    assert [one["code"] for one in service.status()["warnings"]] == ["channel_missing"]
    picture = ENDLESS if known else LONG
    if known:
        service.draw(**ENDLESS | {"steps": 4, "n": 1})  # so that loads and steps are known
    job = service.submit(**picture)
    with service.engine_held(job["job_id"]):
        pid = service.engine_pid
        assert pid is not None
        assert service.http.delete(f"/api/jobs/{job['job_id']}").json()["status"] == "cancelled"
        if known:
            until(lambda: gone(pid), "the engine is ended: the picture takes longer than a load")
        else:
            service.until_state("draining")
            refused = service.http.post("/api/unload")
            assert (refused.status_code, refused.json()["code"]) == (409, "busy")
    if not known:
        service.until_state("ready")
        assert service.engine_pid == pid
    after = service.draw("what comes after")
    assert (after["status"], after["attempts"]) == ("complete", 1)
    assert service.job(job["job_id"])["images"] == []


@second_engine_long
def test_a_job_cancelled_while_its_model_loads_ends_the_load(
    serve_drawer, drawer: Engine, sd_server: Path, tmp_path: Path
) -> None:
    service = serve_drawer(**held_load(drawer, sd_server, tmp_path))
    job = service.submit()
    service.until_state("loading")
    assert service.http.delete(f"/api/jobs/{job['job_id']}").json()["status"] == "cancelled"
    service.until_state("cold")
    assert len(service.processes()) <= 3, "no engine is left"


def test_a_cancel_half_way_through_n_keeps_the_finished_pictures(service: Service) -> None:
    before = set((service.home / "images").glob("*"))
    job = service.submit(width=128, height=128, steps=40, n=4)
    until(lambda: service.job(job["job_id"])["images"], "the first picture is finished")
    assert service.job(job["job_id"])["images"][0]["expires_at"] is None, "it does not expire while the job runs"
    service.http.delete(f"/api/jobs/{job['job_id']}")
    service.until_state("ready", "cold")
    left = service.job(job["job_id"])
    assert left["status"] == "cancelled" and 1 <= len(left["images"]) < 4
    assert {image["expires_at"] for image in left["images"]} == {left["expires_at"]}
    files = {path.stem for path in set((service.home / "images").glob("*")) - before}
    assert files == {image["id"] for image in left["images"]}


def test_a_key_makes_one_job_over_a_restart_too(serve) -> None:
    service = serve()
    request = {"prompt": "a red circle", "width": 64, "height": 64, "steps": 2}
    headers = {"idempotency-key": "order 66"}
    first = service.http.post("/api/generate", json=request, headers=headers).json()
    again = service.http.post("/api/generate", json=request, headers=headers).json()
    service.kill()
    service.restart()
    after = service.http.post("/api/generate", json=request, headers=headers).json()
    assert first["job_id"] == again["job_id"] == after["job_id"]
    other = service.http.post("/api/generate", json=request | {"seed": 2}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")
    bad = service.http.post("/api/generate", json=request, headers={"idempotency-key": "x" * 129})
    assert (bad.status_code, bad.json()["code"]) == (422, "invalid_request")


def test_a_key_that_comes_twice_at_once_makes_one_job(service: Service) -> None:
    request = {"prompt": "a red circle", "width": 64, "height": 64, "steps": 2}
    answers: list[str] = []

    def submit() -> None:
        answer = httpx.post(
            f"{service.url}/api/generate", json=request, headers={"idempotency-key": "twins"}, timeout=30
        )
        answers.append(answer.json()["job_id"])

    threads = [threading.Thread(target=submit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 8
    assert len(set(answers)) == 1


def test_a_lease_nobody_renews_ends_the_job_and_reading_renews_it(service: Service) -> None:
    with service.at_work() as running:
        left = service.submit(lease_s=5)
        read = service.submit(lease_s=5)
        dropped = service.submit(lease_s=5)
        assert service.http.delete(f"/api/jobs/{dropped['job_id']}/lease").status_code == 200
        deadline = time.monotonic() + 60
        while service.http.get("/api/jobs", params={"limit": 3}).json()["items"][2]["status"] == "queued":
            assert time.monotonic() < deadline
            service.job(read["job_id"])
            time.sleep(0.5)
        failed = service.http.get(f"/api/jobs/{left['job_id']}").json()
        assert failed["error"]["code"] == "lease_expired"
        assert service.job(read["job_id"])["status"] == "queued"
        assert service.job(dropped["job_id"])["status"] == "queued"
        for job in (running, read, dropped):
            service.http.delete(f"/api/jobs/{job['job_id']}")


def test_a_full_queue_says_so_and_takes_nothing(serve) -> None:
    service = serve(max_queue=2, idle_timeout="never")
    with service.at_work():
        service.submit(), service.submit()
        full = service.http.post("/api/generate", json={"prompt": "one too many"})
        assert (full.status_code, full.json()["code"]) == (429, "queue_full")
        assert full.headers["retry-after"]
        assert service.status()["queue"]["queued"] == 2


def test_an_expired_job_says_when_it_expired_and_its_picture_is_gone(serve) -> None:
    service = serve(image_ttl=5)  # seconds to read it in
    job = service.draw()
    image = job["images"][0]["id"]
    until(lambda: service.http.get(f"/api/jobs/{job['job_id']}").status_code == 410, "the job expires")
    for path in (f"/api/jobs/{job['job_id']}", f"/images/{image}.png"):
        answer = service.http.get(path)
        assert (answer.status_code, answer.json()["code"]) == (410, "expired")
        assert answer.json()["expired_at"] == job["expires_at"]
    assert list((service.home / "images").glob("*")) == []


# ---- the orderly stop -------------------------------------------------------------------------


def callers(service: Service) -> int:
    return sum(connection.status == psutil.CONN_ESTABLISHED for connection in service.worker.net_connections())


@second_engine_long
def test_sigterm_lets_the_running_picture_finish_and_leaves_nothing_behind(serve_drawer, drawer: Engine) -> None:
    service = serve_drawer(idle_timeout="never")
    answers: list[httpx.Response] = []
    with service.at_work() as job:
        waiting = service.submit("a green tree")
        everything = service.processes()
        url = f"{service.url}/api/jobs/{waiting['job_id']}"
        reader = threading.Thread(target=lambda: answers.append(httpx.get(url, params={"wait": 50}, timeout=60)))
        before = callers(service)
        reader.start()
        until(lambda: callers(service) > before, "the reader waits")
        time.sleep(0.5)  # let the long-poll reach its wait; a poll that comes later is simply refused
        service.terminate()
        reader.join(60)
        assert not reader.is_alive(), "a long-poll ends when the service stops"
        assert answers[0].json()["status"] == "queued"
    service.wait()
    assert all(gone(process.pid) for process in everything)
    service.restart()
    done = service.job(job["job_id"])
    assert (done["status"], done["attempts"]) == ("complete", 1)
    assert service.ended(waiting["job_id"])["status"] == "complete"


@second_engine_long
def test_sigterm_puts_back_what_cannot_finish_in_time_without_counting_it(serve_drawer, drawer: Engine) -> None:
    service = serve_drawer(idle_timeout="never", shutdown_grace_s=1)
    job = service.submit(**drawer.endless)
    service.until_drawing(job["job_id"])
    everything = service.processes()
    service.terminate()
    service.wait()
    assert all(gone(process.pid) for process in everything)
    service.restart()
    until(lambda: service.job(job["job_id"])["attempts"] == 1, "it runs again, and the first start does not count")
    service.http.delete(f"/api/jobs/{job['job_id']}")


def test_while_it_stops_new_jobs_are_refused(serve) -> None:
    service = serve(idle_timeout="never")
    with service.at_work():
        assert service.http.get("/api/status").status_code == 200  # this connection is kept alive
        service.terminate()
        until(lambda: "stopping" in service.tail(), "the signal has arrived")
        with contextlib.suppress(httpx.TransportError):  # the connection was closed first, or is never accepted
            answer = service.http.post("/api/generate", json={"prompt": "too late"}, timeout=3)
            assert (answer.status_code, answer.json()["code"]) == (503, "shutting_down")
        with contextlib.closing(sqlite3.connect(f"file:{service.home / 'jobs.sqlite3'}?mode=ro", uri=True)) as jobs:
            assert jobs.execute("SELECT count(*) FROM jobs WHERE params LIKE '%too late%'").fetchone() == (0,)

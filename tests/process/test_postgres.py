"""A service whose jobs are in Postgres: it draws, survives kills and a server that goes away, and is the only one."""

from __future__ import annotations

import signal
from pathlib import Path

from postgres import PostgresServer
from served import MakeService, Service, new_home, refused_start, until

LONG = {"width": 256, "height": 256, "steps": 100}
"""A job of seconds, to be met at work. Its engine is then held, so that it is at work until the test says."""
PASSWORD = "pass-word"


def test_a_service_on_postgres_loses_nothing_by_a_kill_or_an_outage(
    postgres: PostgresServer, serve: MakeService, home: Path, tmp_path: Path, models_dir: Path, sd_server: Path
) -> None:
    url = postgres.new_database()
    service = serve(database_url=url, idle_timeout="never")
    drawn = service.draw(seed=4_294_967_295)
    killed, waiting = service.submit(**LONG)["job_id"], service.submit()["job_id"]
    service.until_drawing(killed)
    with service.engine_held():
        second = Service(new_home(tmp_path / "second", models_dir), sd_server, {"database_url": url})
        log = refused_start(second, "cannot start: Another service is using the database 127.0.0.1:")
        commands = " ".join(word for process in service.processes() for word in process.cmdline())
        service.kill()
    service.restart()
    ended = [service.ended(one) for one in (killed, waiting)]
    assert [(job["status"], job["attempts"]) for job in ended] == [("complete", 2), ("complete", 1)]
    assert service.job(drawn["job_id"])["images"] == drawn["images"] and service.png(drawn)

    slow, next_one = service.submit(**LONG)["job_id"], service.submit()["job_id"]
    service.until_drawing(slow)
    with service.engine_held():
        postgres.stop(signal.SIGQUIT)
        refused = service.http.post("/api/generate", json={"prompt": "a red circle", "width": 64, "height": 64})
    try:
        assert (refused.status_code, refused.json()["code"]) == (503, "database_unavailable")
        assert refused.headers["retry-after"]
        until(lambda: f"{slow} waits for the database server" in service.log.read_text(), "the picture is drawn")
    finally:
        postgres.start()
    ended = [service.ended(one) for one in (slow, next_one)]
    assert [(job["status"], job["attempts"]) for job in ended] == [("complete", 1)] * 2
    assert len(service.http.get("/api/jobs").json()["items"]) == 5
    assert not (home / "jobs.sqlite3").exists()
    told = log + commands + service.log.read_text() + service.http.get("/api/status").text
    assert PASSWORD not in told and "Traceback" not in told

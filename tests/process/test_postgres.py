"""A service whose jobs are in Postgres: it draws, survives kills and a server that goes away."""

from __future__ import annotations

import signal
from pathlib import Path

from postgres import PostgresServer
from served import MakeService, until

PASSWORD = "pass-word"


def test_a_service_on_postgres_loses_nothing_by_a_kill_or_an_outage(
    postgres: PostgresServer, serve: MakeService, home: Path
) -> None:
    service = serve(database_url=postgres.new_database(), idle_timeout="never")
    drawn = service.draw(seed=4_294_967_295)
    with service.at_work() as job:
        killed, waiting = job["job_id"], service.submit()["job_id"]
        commands = " ".join(word for process in service.processes() for word in process.cmdline())
        service.kill()
    service.restart()
    ended = [service.ended(one) for one in (killed, waiting)]
    assert [(job["status"], job["attempts"]) for job in ended] == [("complete", 2), ("complete", 1)]
    assert service.job(drawn["job_id"])["images"] == drawn["images"] and service.png(drawn)

    with service.at_work() as job:
        slow, next_one = job["job_id"], service.submit()["job_id"]
        postgres.stop(signal.SIGQUIT)
        refused = service.http.post("/api/generate", json={"prompt": "refused", "width": 64, "height": 64})
    try:
        assert (refused.status_code, refused.json()["code"]) == (503, "database_unavailable")
        assert refused.headers["retry-after"]
        until(lambda: f"{slow} waits for the database server" in service.log.read_text(), "the picture is drawn")
    finally:
        postgres.start()
    ended = [service.ended(one) for one in (slow, next_one)]
    assert [(job["status"], job["attempts"]) for job in ended] == [("complete", 1)] * 2
    assert "refused" not in {job["prompt"] for job in service.http.get("/api/jobs").json()["items"]}
    assert not (home / "jobs.sqlite3").exists()
    told = commands + service.log.read_text() + service.http.get("/api/status").text
    assert PASSWORD not in told and "Traceback" not in told

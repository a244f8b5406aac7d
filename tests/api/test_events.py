"""Events: snapshots of one job and of everything, with readers that come back, stall, or leave."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from types import SimpleNamespace
from typing import Any

import pytest
from event_stream import listening
from served import Service, until
from starlette.types import Message

from imagegen.http import sse
from imagegen.http.snapshots import Snapshots
from imagegen.jobs.notifications import Notifier

SECONDS = {"width": 128, "height": 128, "steps": 80}
"""A picture of seconds, so that a reader hears of it while it is drawn."""


def test_a_job_is_told_from_queue_to_picture_and_then_the_stream_ends(service: Service) -> None:
    with contextlib.ExitStack() as held:
        ahead = held.enter_context(service.at_work())
        job = service.submit(seed=3, **SECONDS)
        with listening(service, f"/api/jobs/{job['job_id']}/events") as stream:
            heard = [next(stream)]
            held.close()
            heard += stream  # ends by itself, after the last snapshot
    assert {event.name for event in heard} == {"job"}
    assert [event.id for event in heard] == [event.data["revision"] for event in heard]
    assert [event.id for event in heard] == sorted(event.id for event in heard)
    statuses = [event.data["status"] for event in heard]
    assert statuses[0] == "queued"
    assert "running" in statuses
    assert statuses.index("running") == statuses.count("queued"), "it ran once"
    positions = [event.data["position"] for event in heard if event.data["status"] == "queued"]
    assert positions[0] >= 1
    assert positions == sorted(positions, reverse=True)
    last = heard[-1].data
    assert (last["status"], last["position"], len(last["images"])) == ("complete", None, 1)
    assert last == service.job(job["job_id"])
    assert service.http.get(last["url"]).content[:4] == b"\x89PNG"
    assert service.ended(ahead["job_id"])["status"] == "complete"


def test_who_comes_back_gets_what_is_newer_and_nothing_else(service: Service) -> None:
    job = service.draw()
    path = f"/api/jobs/{job['job_id']}/events"
    with listening(service, path, **{"Last-Event-ID": str(job["revision"] - 1)}) as stream:
        assert [event.data for event in stream] == [job]
    assert service.http.get(path, headers={"Last-Event-ID": str(job["revision"])}).status_code == 204
    with listening(service, path, **{"Last-Event-ID": "not ours"}) as stream:
        assert [event.id for event in stream] == [job["revision"]]


def test_events_of_no_job_and_a_wrong_presence_are_refused(service: Service) -> None:
    absent = service.http.get("/api/jobs/0123456789abcdef0123456789abcdef/events")
    assert (absent.status_code, absent.json()["code"]) == (404, "job_not_found")
    wrong = service.http.get("/api/events", params={"presence": "yes"})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid_request")


def test_everything_tells_the_engine_the_queue_and_each_job(service: Service) -> None:
    with listening(service, "/api/events?presence=1") as stream:
        first = next(stream)
        assert (first.name, first.data.keys()) == ("status", service.status().keys())
        assert next(stream).name == "queue"
        job = service.submit(**SECONDS)
        cancelled = service.submit()
        service.http.delete(f"/api/jobs/{cancelled['job_id']}")
        latest: dict[str, dict[str, Any]] = {}
        queues: list[list[str]] = []
        engine: set[str] = set()
        for event in stream:
            match event.name:
                case "job":
                    known = latest.get(event.data["job_id"])
                    assert known is None or known["revision"] <= event.data["revision"]
                    latest[event.data["job_id"]] = event.data
                case "queue":
                    queues.append(event.data["jobs"])
                case "status":
                    engine.add(event.data["engine"]["state"])
            mine = [latest.get(one["job_id"], one)["status"] for one in (job, cancelled)]
            if mine == ["complete", "cancelled"] and queues and queues[-1] == [] and engine & {"ready", "drawing"}:
                break
    assert any(job["job_id"] in queue for queue in queues)
    assert latest[job["job_id"]] == service.job(job["job_id"])
    assert "drawing" in engine


def test_who_comes_back_to_everything_hears_of_jobs_that_ended_meanwhile(service: Service) -> None:
    with listening(service, "/api/events") as stream:
        seen = next(stream).id
    job = service.draw()
    with listening(service, "/api/events", **{"Last-Event-ID": str(seen)}) as stream:
        found = next(event for event in stream if event.name == "job" and event.data["job_id"] == job["job_id"])
    assert found.data == job


def test_who_looks_keeps_the_model_and_who_only_listens_does_not(serve) -> None:
    service = serve()  # of its own: a warm-up of another test counts as presence for minutes (TYPING_S)
    for path, counts in (("/api/events", False), ("/api/events?presence=1", True)):  # a leave is noticed a moment later
        with listening(service, path) as stream:
            job = service.submit()
            reasons: list[str | None] = []
            complete, engine = False, ""
            while not (complete and engine in {"ready", "unloading", "cold"}):
                event = next(stream)
                complete |= event.data.get("status") == "complete" and event.data["job_id"] == job["job_id"]
                if event.name == "status":
                    engine = event.data["engine"]["state"]
                    reasons.append(event.data["idle"]["reason"])
        assert any("a user is present" in reason for reason in reasons if reason) is counts, reasons


def test_reading_its_events_keeps_a_lease_alive(service: Service) -> None:
    with contextlib.ExitStack() as held:
        ahead = held.enter_context(service.at_work())
        job = service.submit(lease_s=5)
        with listening(service, f"/api/jobs/{job['job_id']}/events") as stream:
            assert next(stream).data["status"] == "queued"
            left = service.submit(lease_s=5)
            until(lambda: status_of(service, left["job_id"]) == "failed", "the lease that nobody renews runs out")
            assert status_of(service, job["job_id"]) == "queued"
            held.close()
            assert list(stream)[-1].data["status"] == "complete"
    assert service.ended(ahead["job_id"])["status"] == "complete"


def test_stuck_and_gone_readers_cost_nothing_and_a_stop_ends_the_rest(serve) -> None:
    service = serve()
    stuck = [unread(service.port, "/api/events?presence=1") for _ in range(20)]
    for _ in range(20):
        unread(service.port, "/api/events").close()
    with listening(service, "/api/events") as stream:
        job = service.draw(n=2)
        assert any(event.data.get("job_id") == job["job_id"] for event in stream)
        assert service.http.get("/readyz").status_code == 200
        service.terminate()
        rest = list(stream)
    assert service.wait() == 0, service.tail()
    assert all(event.name in {"job", "queue", "status"} for event in rest)
    assert "Traceback" not in service.log.read_text()
    for connection in stuck:
        connection.close()


def status_of(service: Service, job_id: str) -> str:
    """A job's status, read without renewing its lease."""
    items = service.http.get("/api/jobs").json()["items"]
    return next(item["status"] for item in items if item["job_id"] == job_id)


def unread(port: int, path: str) -> socket.socket:
    """A reader that asks and then reads nothing."""
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
    return connection


@pytest.mark.parametrize("trouble", ["takes nothing", "has gone"])
def test_a_reader_who_takes_nothing_or_has_gone_is_let_go(trouble: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "STUCK_S", 0.05)
    closed: list[str] = []

    async def frames() -> sse.Frames:
        try:
            yield b"event: job\n\n"
            await asyncio.Event().wait()
        finally:
            closed.append(trouble)

    async def receive() -> Message:
        if trouble == "has gone":
            return {"type": "http.disconnect"}
        return await asyncio.Event().wait()

    async def send(message: Message) -> None:
        if trouble == "takes nothing" and message["type"] == "http.response.body":
            await asyncio.Event().wait()

    async def answer() -> None:
        async with asyncio.timeout(20):
            await sse.EventStream(frames())({"type": "http", "method": "GET"}, receive, send)

    asyncio.run(answer())
    assert closed == [trouble]


def test_readers_of_one_ring_share_one_read_and_the_next_ring_is_read_anew() -> None:
    reads: list[int] = []
    began = asyncio.Event()

    class Jobs:
        changes = Notifier()

        async def get(self, job_id: str, *, renew: bool) -> int:
            assert not renew
            reads.append(self.changes.version)
            if job_id == "y":
                began.set()
            await asyncio.sleep(0)
            return self.changes.version

    async def main() -> None:
        jobs = Jobs()
        shared = Snapshots(SimpleNamespace(jobs=jobs))
        for ring in (1, 2):
            jobs.changes.notify("x")
            assert await asyncio.gather(*(shared.job("x") for _ in range(50))) == [ring] * 50
        late = asyncio.ensure_future(shared.job("y"))
        await began.wait()
        jobs.changes.notify("y")
        assert await shared.job("y") == 3, "a read that began before the ring is not good enough after it"
        await late

    asyncio.run(main())
    assert reads == [1, 2, 2, 3]

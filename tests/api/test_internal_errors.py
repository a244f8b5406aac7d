"""An exception that no handler expects: one 500 of ours, one stack trace in the log, and no id in it."""

from __future__ import annotations

import asyncio
import hashlib
import io
import logging
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image
from refusals import problem_of
from served import Service, until
from starlette.requests import ClientDisconnect, Request
from starlette.responses import StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from imagegen.http.asgi import make_app
from imagegen.http.internal_errors import InternalErrors
from imagegen.http.routes.session import Sessions
from imagegen.telemetry import logs
from imagegen.telemetry.metrics import Metrics

ID = "0123456789abcdef" * 2
TRACE = "Traceback (most recent call last)"


async def broken(_request: Request) -> None:
    raise RuntimeError(f"cannot open /images/{ID}.png")


async def broken_half_way(_request: Request) -> StreamingResponse:
    async def body() -> AsyncIterator[bytes]:
        yield b"first"
        raise RuntimeError("broken half-way")

    return StreamingResponse(body())


async def hung_up(_request: Request) -> None:
    raise ClientDisconnect


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What the service's log has, as `logs.configure` writes it."""
    logger, written = logging.getLogger("imagegen"), io.StringIO()
    before = logger.handlers[:], logger.level, logger.propagate
    logs.configure("INFO")
    handler = logger.handlers[0]
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(written)
    yield written
    logger.handlers[:], logger.level, logger.propagate = before


@pytest.fixture
def client() -> TestClient:
    """The app with routes that fail; an exception that leaves the app fails the test."""
    app = make_app(Sessions(None, Path("unused")), Metrics())
    app.router.routes[:0] = [
        Route("/images/{name}/broken", broken),
        Route("/half", broken_half_way),
        Route("/hung-up", hung_up),
    ]
    return TestClient(app, raise_server_exceptions=True)


def test_an_internal_error_is_one_answer_and_one_stack_trace(client: TestClient, log: io.StringIO) -> None:
    answer = client.get(f"/images/{ID}.png/broken")
    status, code, detail = problem_of(answer)  # type: ignore[arg-type]
    assert (status, code) == (500, "internal")
    assert detail == "Internal error while answering this request. See the service log."
    assert log.getvalue().count(TRACE) == 1
    assert "RuntimeError: cannot open /images/ID.png" in log.getvalue()
    assert "internal error while answering GET '/images/ID.png/broken'" in log.getvalue()
    assert ID not in log.getvalue()


def test_an_error_half_way_ends_the_answer_unfinished(client: TestClient, log: io.StringIO) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        await asyncio.Event().wait()  # the client stays
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/half", "headers": [], "query_string": b"", "root_path": ""}
    asyncio.run(client.app(scope | {"asgi": {"version": "3.0"}}, receive, send))
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert (sent[0]["status"], sent[1]["body"], sent[1]["more_body"]) == (200, b"first", True)
    assert log.getvalue().count("RuntimeError: broken half-way") == 1


def test_a_client_that_hung_up_is_not_logged(client: TestClient, log: io.StringIO) -> None:
    client.get("/hung-up")
    assert log.getvalue() == ""


@pytest.mark.parametrize("path", ["/somewhere", "/v1/images/edits"])
def test_an_error_of_a_middleware_is_the_same_answer(path: str, log: io.StringIO) -> None:
    async def failing(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise RuntimeError("a middleware fails")

    answer = TestClient(InternalErrors(failing)).post(path)
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert log.getvalue().count(TRACE) == 1


def test_other_scopes_pass_untouched() -> None:
    seen: list[str] = []

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.append(scope["type"])

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    asyncio.run(InternalErrors(app)({"type": "lifespan"}, receive, lambda _message: asyncio.sleep(0)))
    assert seen == ["lifespan"]


def test_the_running_service_logs_one_stack_trace_and_no_id(service: Service) -> None:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "PNG")
    uploaded = service.http.post("/api/images", content=file.getvalue(), headers={"content-type": "image/png"})
    image_id = uploaded.json()["id"]
    no_picture = b"no picture at all"  # its checksum is right, so only Pillow's decoder finds it
    (service.home / "images" / f"{image_id}.png").write_bytes(no_picture)
    with closing(sqlite3.connect(service.home / "jobs.sqlite3", isolation_level=None)) as database:
        sha256 = hashlib.sha256(no_picture).hexdigest()
        database.execute("UPDATE images SET sha256 = ? WHERE id = ?", (sha256, image_id))

    before = len(service.log.read_text(errors="replace"))
    answer = service.http.get(f"/images/{image_id}.jpg")
    assert problem_of(answer)[:2] == (500, "internal")

    def written() -> str:
        return service.log.read_text(errors="replace")[before:]

    until(lambda: "BrokenPng" in written(), "the error is logged")
    assert service.http.get("/livez").status_code == 200
    assert written().count(TRACE) == 1
    assert image_id not in written()
    assert len(written().splitlines()) < 60

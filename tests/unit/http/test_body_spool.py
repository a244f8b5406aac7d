"""Request bodies on their way in: whole, bounded in memory and on the disk, and refused in time."""

from __future__ import annotations

import asyncio
import errno
import json
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send

from imagegen.http.body import BodyLimit
from imagegen.http.spool import IN_MEMORY_BYTES, LARGE_AT_ONCE, PIECE_BYTES, BodySpool, Spool, release_body

DEADLINE_S = 30.0
MIB = 2**20


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the body."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body, more = body + message["body"], message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


class Client:
    """Sends `pieces` as a body, then waits (or hangs up), and keeps the answer."""

    def __init__(self, *pieces: bytes, ends: bool = True, hangs_up: bool = False, declared: int | None = None) -> None:
        self._pieces = list(pieces)
        self._ends, self._hangs_up = ends, hangs_up
        headers = [] if declared is None else [(b"content-length", str(declared).encode())]
        self.scope: Scope = {"type": "http", "method": "POST", "path": "/", "headers": headers}
        self.status, self.body, self.headers = 0, b"", dict[bytes, bytes]()
        self.taken = asyncio.Event()  # all pieces

    async def receive(self) -> Message:
        if self._pieces:
            piece = self._pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(self._pieces) or not self._ends}
        self.taken.set()
        if not self._hangs_up:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], dict(message["headers"])
        else:
            self.body += message.get("body", b"")

    async def ask(self, app: Any) -> Client:
        await asyncio.wait_for(app(self.scope, self.receive, self.send), DEADLINE_S)
        return self

    def refusal(self) -> tuple[int, str]:
        return self.status, json.loads(self.body)["code"]


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Spool]:
    def spool(most_bytes: int = 64 * MIB, progress_s: float = 600.0) -> Spool:
        return Spool(tmp_path / "bodies", most_bytes, progress_s)

    return spool


def at_rest(spool: Spool) -> bool:
    return (spool.bytes_in_flight, spool.files) == (0, 0) and not spool.turns.locked()


SIZES = st.sampled_from([0, 1, 1000, IN_MEMORY_BYTES - 1, IN_MEMORY_BYTES, IN_MEMORY_BYTES + 1, PIECE_BYTES])


@given(st.lists(SIZES, min_size=1, max_size=5))
def test_a_body_arrives_as_it_was_sent(sizes: list[int]) -> None:
    pieces = [bytes([number]) * size for number, size in enumerate(sizes)]

    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            spool = Spool(Path(folder) / "bodies", 64 * MIB, 600.0)
            client = await Client(*pieces).ask(BodySpool(echo, spool))
            assert (client.status, client.body) == (200, b"".join(pieces))
            assert at_rest(spool)

    asyncio.run(run())


def test_a_large_body_is_in_a_file_that_nobody_else_can_open(make: Callable[..., Spool]) -> None:
    async def run() -> None:
        spool, client = make(), Client(bytes(MIB), ends=False)
        asking = asyncio.create_task(client.ask(BodySpool(echo, spool)))
        await asyncio.wait_for(client.taken.wait(), DEADLINE_S)
        assert (spool.files, spool.bytes_in_flight) == (1, MIB)
        assert list(spool.folder.iterdir()) == [], "the file has no name"
        assert stat.S_IMODE(spool.folder.stat().st_mode) == 0o700
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert at_rest(spool)

    asyncio.run(run())


def test_bytes_in_flight_are_capped_and_short_requests_pass(make: Callable[..., Spool]) -> None:
    async def run() -> None:
        spool = make(most_bytes=3 * MIB)
        app = BodySpool(echo, spool)
        waiting = Client(bytes(2 * MIB), ends=False)
        asking = asyncio.create_task(waiting.ask(app))
        await asyncio.wait_for(waiting.taken.wait(), DEADLINE_S)
        for refused in (Client(bytes(2 * MIB)), Client(b"", declared=2 * MIB)):
            await refused.ask(app)
            assert refused.refusal() == (503, "uploads_busy")
            assert refused.headers[b"retry-after"] == b"5"
        assert (await Client(bytes(IN_MEMORY_BYTES)).ask(app)).status == 200
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert (await Client(bytes(2 * MIB)).ask(app)).status == 200
        assert at_rest(spool)

    asyncio.run(run())


@pytest.mark.parametrize("size", [10, MIB])
def test_a_body_that_stands_still_is_refused(make: Callable[..., Spool], size: int) -> None:
    async def run() -> None:
        spool = make(progress_s=0.2)
        client = await Client(bytes(size), ends=False).ask(BodySpool(echo, spool))
        assert client.refusal() == (408, "request_timeout")
        assert "IMAGEGEN_BODY_TIMEOUT_S" in json.loads(client.body)["detail"]
        assert at_rest(spool)

    asyncio.run(run())


def test_a_few_bytes_now_and_then_are_no_progress(make: Callable[..., Spool]) -> None:
    async def trickle() -> Message:
        await asyncio.sleep(0.01)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def run() -> None:
        client = Client()
        await asyncio.wait_for(BodySpool(echo, make(progress_s=0.3))(client.scope, trickle, client.send), DEADLINE_S)
        assert client.refusal() == (408, "request_timeout")

    asyncio.run(run())


def test_a_client_that_hangs_up_leaves_nothing(make: Callable[..., Spool]) -> None:
    async def run() -> None:
        spool = make()
        client = await Client(bytes(MIB), ends=False, hangs_up=True).ask(BodySpool(echo, spool))
        assert client.status == 0
        assert at_rest(spool)

    asyncio.run(run())


def test_a_body_over_the_cap_of_one_is_refused_as_ever(make: Callable[..., Spool]) -> None:
    async def run() -> None:
        spool = make()
        client = await Client(*[bytes(MIB)] * 3, ends=False).ask(BodyLimit(BodySpool(echo, spool), 2 * MIB))
        assert client.refusal() == (413, "body_too_large")
        assert at_rest(spool)

    asyncio.run(run())


def test_few_large_bodies_are_in_memory_at_once(make: Callable[..., Spool]) -> None:
    async def run() -> None:
        spool, let_go = make(), asyncio.Event()
        inside = 0

        async def handler(scope: Scope, receive: Receive, send: Send) -> None:
            nonlocal inside
            await receive()
            inside += 1
            assert inside <= LARGE_AT_ONCE
            await let_go.wait()
            inside -= 1
            release_body(scope)  # as a blocking request does, whose job goes on
            await asyncio.sleep(0)
            await send({"type": "http.response.start", "status": 200, "headers": []})

        app = BodySpool(handler, spool)
        asking = [asyncio.create_task(Client(bytes(MIB)).ask(app)) for _ in range(6)]
        async with asyncio.timeout(DEADLINE_S):
            while inside < LARGE_AT_ONCE or spool.bytes_in_flight < 6 * MIB:  # noqa: ASYNC110 - there is no event
                await asyncio.sleep(0.01)
        let_go.set()
        for client in await asyncio.gather(*asking):
            assert client.status == 200
        assert at_rest(spool)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("number", "refusal"),
    [
        (errno.ENOSPC, (507, "storage_full")),
        (errno.EROFS, (500, "storage_error")),
        (errno.EMFILE, (503, "uploads_busy")),
    ],
)
def test_a_disk_that_does_not_take_the_body_is_told(
    make: Callable[..., Spool], monkeypatch: pytest.MonkeyPatch, number: int, refusal: tuple[int, str]
) -> None:
    def refuse(**_named: Any) -> None:
        raise OSError(number, "refused")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)

    async def run() -> None:
        spool = make()
        client = await Client(bytes(MIB)).ask(BodySpool(echo, spool))
        assert client.refusal() == refusal
        assert at_rest(spool)

    asyncio.run(run())

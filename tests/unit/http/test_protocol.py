"""Connections of the HTTP server in process: deadlines, the end after a refusal, and the caps."""

from __future__ import annotations

import asyncio
import functools
import json
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from imagegen.http.listener import LOOPBACK, Connection, Connections, Listener, group_of
from imagegen.http.protocol import LINGER_BYTES, Protocol

DEADLINE_S = 30.0
LONG_S = 600.0
HEAD = b"POST /%s HTTP/1.1\r\nhost: localhost\r\n"
CHUNK = b"10000\r\n" + bytes(65_536) + b"\r\n"
Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """/read reads its body, /refuse does not, /large answers 64 MB."""
    if scope["path"] == "/read":
        while (await receive()).get("more_body", False):
            pass
    body = bytes(64_000_000) if scope["path"] == "/large" else b"done"
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": 401, "headers": [length]})
    await send({"type": "http.response.body", "body": body})


class Serving:
    """`app` on a loopback port."""

    def __init__(self, most: int = 100, **deadlines: float) -> None:
        self.connections = Connections(most, most)
        self._deadlines = {"head_s": LONG_S, "write_s": LONG_S} | deadlines

    async def __aenter__(self) -> Serving:
        config = uvicorn.Config(app, log_config=None, timeout_keep_alive=int(LONG_S))
        config.load()
        server = uvicorn.Server(config)
        listening = socket.create_server(("127.0.0.1", 0))
        self.port = listening.getsockname()[1]
        make = functools.partial(
            Protocol, config, server.server_state, {}, connections=self.connections, **self._deadlines
        )
        listener = Listener(listening, self.connections, plain=True)
        self._server = await asyncio.get_running_loop().create_server(make, sock=listener)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def connect(self, sent: bytes = b"") -> tuple[Reader, Writer]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(sent)
        return reader, writer

    async def until(self, happened: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not happened():  # noqa: ASYNC110 - what is waited for sets no event
                await asyncio.sleep(0.01)


def scenario(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*given: Any, **named: Any) -> None:
        asyncio.run(asyncio.wait_for(test(*given, **named), 2 * DEADLINE_S))

    return run


async def answer(reader: Reader) -> tuple[int, bytes]:
    """The status and the head of the next answer; its body is read too."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length"))
    await reader.readexactly(length)
    return int(head.split()[1]), head


async def at_end(reading: Awaitable[bytes]) -> bytes:
    try:
        return await reading
    except ConnectionError:
        return b""


# ---- deadlines ------------------------------------------------------------------------------------------------


@scenario
async def test_a_connection_that_sends_nothing_is_closed() -> None:
    async with Serving(head_s=0.1) as serving:
        reader, writer = await serving.connect()
        assert await reader.read() == b""
        writer.close()
        await serving.until(lambda: len(serving.connections) == 0)


@pytest.mark.parametrize("before", [b"", HEAD % b"read" + b"content-length: 2\r\n\r\nab"], ids=["first", "second"])
@scenario
async def test_a_head_that_is_not_finished_is_refused(before: bytes) -> None:
    async with Serving(head_s=0.3) as serving:
        reader, writer = await serving.connect(before)
        if before:
            await answer(reader)
        writer.write(b"GET / HTTP/1.1\r\nhost: loc")
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408 ")
        assert b"connection: close" in head
        assert json.loads(body)["code"] == "request_timeout"
        writer.close()


@scenario
async def test_the_deadline_is_not_moved_by_bytes_that_trickle() -> None:
    async with Serving(head_s=0.3) as serving:
        reader, writer = await serving.connect(b"GET / HTTP/1.1\r\n")
        reading = asyncio.create_task(reader.read())
        number = 0
        while not reading.done():
            number += 1
            writer.write(b"x-%d: y\r\n" % number)
            await asyncio.wait({reading}, timeout=0.05)
        await at_end(reading)
        writer.close()
        await serving.until(lambda: len(serving.connections) == 0)


@scenario
async def test_a_request_in_time_is_answered_and_its_connection_stays() -> None:
    async with Serving() as serving:
        reader, writer = await serving.connect()
        for _ in range(3):
            writer.write(HEAD % b"read" + b"content-length: 2\r\n\r\nab")
            status, head = await answer(reader)
            assert status == 401
            assert b"connection: close" not in head
        assert len(serving.connections) == 1
        writer.close()


@scenario
async def test_a_client_that_reads_nothing_of_its_answer_is_let_go() -> None:
    async with Serving(write_s=0.2) as serving:
        with socket.create_connection(("127.0.0.1", serving.port)) as client:
            client.sendall(HEAD % b"large" + b"content-length: 0\r\n\r\n")
            await serving.until(lambda: len(serving.connections) == 1)
            await serving.until(lambda: len(serving.connections) == 0)


# ---- the end after a refusal ----------------------------------------------------------------------------------


@pytest.mark.parametrize("framing", [b"transfer-encoding: chunked", b"content-length: 1000000000000"])
@scenario
async def test_after_a_refusal_the_body_is_not_read_to_its_end(framing: bytes) -> None:
    async with Serving() as serving:
        _reader, writer = await serving.connect(HEAD % b"refuse" + framing + b"\r\n\r\n")
        sent = 0
        try:
            while sent < 200 * LINGER_BYTES:
                writer.write(CHUNK)
                await writer.drain()
                sent += len(CHUNK)
        except ConnectionError:
            pass
        assert sent < 30 * LINGER_BYTES  # what the kernel's buffers hold is sent, not read
        await serving.until(lambda: len(serving.connections) == 0)
        writer.close()


@scenario
async def test_a_refusal_reaches_a_client_that_goes_on_sending() -> None:
    async with Serving() as serving:
        reader, writer = await serving.connect(HEAD % b"refuse" + b"transfer-encoding: chunked\r\n\r\n")
        writer.write(CHUNK)
        status, head = await answer(reader)
        assert status == 401
        assert b"connection: close" in head
        writer.write(b"0\r\n\r\n")
        assert await at_end(reader.read()) == b""
        writer.close()


@scenario
async def test_the_rest_of_a_short_body_has_a_deadline() -> None:
    async with Serving(head_s=0.3) as serving:
        reader, writer = await serving.connect(HEAD % b"refuse" + b"content-length: 4\r\n\r\nbo")
        status, head = await answer(reader)
        assert status == 401
        assert b"connection: close" not in head
        writer.write(b"d")
        assert await at_end(reader.read()) == b""
        writer.close()


@scenario
async def test_a_request_to_change_the_protocol_is_a_request() -> None:
    async with Serving() as serving:
        upgrade = b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
        key = b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        reader, writer = await serving.connect(b"GET /x HTTP/1.1\r\nhost: localhost\r\n" + upgrade + key)
        assert (await answer(reader))[0] == 401
        writer.close()


# ---- caps -----------------------------------------------------------------------------------------------------


@scenario
async def test_at_the_cap_the_connection_that_waits_longest_makes_room() -> None:
    async with Serving(most=3) as serving:
        opened = [await serving.connect() for _ in range(3)]
        await serving.until(lambda: len(serving.connections) == 3)
        reader, writer = await serving.connect(HEAD % b"read" + b"content-length: 0\r\n\r\n")
        assert (await answer(reader))[0] == 401
        assert await at_end(opened[0][0].read()) == b""
        assert not opened[1][0].at_eof()
        for _reader, one in [*opened, (reader, writer)]:
            one.close()
        await serving.until(lambda: len(serving.connections) == 0)


@scenario
async def test_where_every_connection_has_a_request_a_new_one_is_refused() -> None:
    async with Serving(most=2) as serving:
        unfinished = HEAD % b"read" + b"content-length: 10\r\n\r\nhalf"
        opened = [await serving.connect(unfinished) for _ in range(2)]
        await serving.until(lambda: len(serving.connections) == 2 and not serving.connections._idle)
        reader, writer = await serving.connect()
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 5" in head
        assert json.loads(body)["code"] == "too_many_connections"
        opened[0][1].write(b"finish")
        assert (await answer(opened[0][0]))[0] == 401
        for _reader, one in [*opened, (reader, writer)]:
            one.close()


def test_an_address_has_a_cap_of_its_own_and_loopback_a_share_for_itself() -> None:
    connections = Connections(most=16, most_per_address=3)
    kept: list[socket.socket] = []

    def come(address: str) -> Connection | None:
        here, there = socket.socketpair()
        kept.append(there)
        one = connections.add(here, (address, 1234))
        if one is None:
            here.close()
        else:
            connections.busy(one)
        return one

    of_one = [come("192.0.2.1") for _ in range(4)]
    assert [one is not None for one in of_one] == [True, True, True, False]
    others = [come(f"192.0.2.{i}") for i in range(2, 20)]
    assert sum(one is not None for one in others) == 14 - 3, "two of sixteen are for loopback"
    local = [come("127.0.0.1") for _ in range(3)]
    assert [one is not None for one in local] == [True, True, False]
    assert of_one[0] is not None
    of_one[0].close()
    assert come("192.0.2.1") is not None
    for one in [*of_one, *others, *local]:
        if one is not None:
            one.close()
    for other in kept:
        other.close()


@pytest.mark.parametrize(
    ("address", "group"),
    [
        (("127.0.0.1", 1), LOOPBACK),
        (("127.3.2.1", 1), LOOPBACK),
        (("::1", 1, 0, 0), LOOPBACK),
        (("::ffff:127.0.0.1", 1, 0, 0), LOOPBACK),
        ("", LOOPBACK),
        (("192.0.2.7", 1), "192.0.2.7"),
        (("::ffff:192.0.2.7", 1, 0, 0), "192.0.2.7"),
        (("2001:db8:1:2:3::4", 1, 0, 0), "2001:db8:1:2::/64"),
        (("fe80::1%eth0", 1, 0, 2), "fe80::/64"),
    ],
)
def test_which_clients_share_a_cap(address: Any, group: str) -> None:
    assert group_of(address) == group

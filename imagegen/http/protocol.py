"""HTTP connections with deadlines that uvicorn's protocol lacks.

uvicorn has no timeout for request headers, for a client that does not read its response, or for the rest of a refused
body. Its keep-alive timeout ends with the first byte of the next request.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
from typing import Any

import h11
import uvicorn
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from imagegen.http.listener import Connection, Connections, Listener, canned

LINGER_S = 2.0
LINGER_BYTES = 1024 * 1024
"""Read at most this much of a refused body, for at most LINGER_S seconds. Closing a socket with unread bytes resets
the connection, and the client may lose the response."""
SHORT_BODY_BYTES = 64 * 1024
CLOSE = (b"connection", b"close")
READS_NOTHING_S = 120.0
"""Abort a connection whose client reads nothing of a response for this many seconds. On a slow link the kernel reports
free buffer space only every many seconds."""


class Protocol(H11Protocol):
    """One connection. `head_s`: deadline for request headers. `write_s`: the client must read part of a response in
    this time. Both in seconds."""

    def __init__(
        self, *given: Any, connections: Connections, head_s: float, write_s: float = READS_NOTHING_S, **named: Any
    ) -> None:
        super().__init__(*given, **named)
        self._connections, self._head_s, self._write_s = connections, head_s, write_s
        self._head: asyncio.TimerHandle | None = None
        self._write: asyncio.TimerHandle | None = None
        self._socket: Connection | None = None
        self._inner = self.app
        self.app = self._answered

    # ---- the request headers ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._socket = self._connections.of(transport.get_extra_info("socket").fileno())
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._end_head_wait()
        self._end_writing_watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch_head()
        if self.transport.is_closing():
            self._watch_writing()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._socket is not None and self._between_requests():
            self._connections.idle(self._socket)
        if self.transport.is_closing():
            self._watch_writing()

    def _between_requests(self) -> bool:
        """Whether every response is complete. The rest of a short, unread body may still arrive."""
        answered = self.cycle is None or self.cycle.response_complete
        return answered and self.conn.their_state in {h11.IDLE, h11.SEND_BODY}

    def _watch_head(self) -> None:
        """Start the deadline for request headers, or cancel it once they have arrived."""
        if not self._between_requests() or self.transport.is_closing():
            self._end_head_wait()
            if self._socket is not None and not self._between_requests():
                self._connections.busy(self._socket)
        elif self._head is None:
            self._head = self.loop.call_later(self._head_s, self._head_late)

    def _end_head_wait(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _head_late(self) -> None:
        self._head = None
        if self.transport.is_closing() or not self._between_requests():
            return
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:  # incomplete headers
            detail = f"The request's headers did not arrive within {self._head_s:g} s (IMAGEGEN_HEADER_TIMEOUT_S)."
            self.transport.write(canned("408 Request Timeout", "request_timeout", detail))
        self.transport.close()
        self._watch_writing()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._watch_writing()

    def _should_upgrade(self) -> bool:
        """Never upgrade: the service has no WebSocket, and an upgraded connection would have no deadlines."""
        return False

    # ---- the response -------------------------------------------------------------------------

    async def _answered(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application. Close the connection after the response if the request body was not read completely.

        A short body may arrive just after its headers: the connection stays open, and uvicorn discards the rest.
        """
        unread = False

        async def sending(message: Message) -> None:
            nonlocal unread
            if message["type"] == "http.response.start":
                unread = self.conn.their_state is h11.SEND_BODY and not _is_short(scope)
                if unread:
                    headers = [one for one in message.get("headers", ()) if one[0].lower() != CLOSE[0]]
                    message = {**message, "headers": [*headers, CLOSE]}
            elif unread and not message.get("more_body", False):
                await send({**message, "more_body": True})
                await _linger(receive)
                message = {"type": "http.response.body", "body": b"", "more_body": False}
            await send(message)

        await self._inner(scope, receive, sending)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_writing()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._end_writing_watch()

    def _watch_writing(self) -> None:
        """Check that the client keeps reading until the response is sent."""
        if self._write is None:
            self._write = self.loop.call_later(self._write_s, self._look_at_writing, self._to_write())

    def _end_writing_watch(self) -> None:
        if self._write is not None:
            self._write.cancel()
            self._write = None

    def _look_at_writing(self, before: int) -> None:
        self._write = None
        if 0 < before <= self._to_write():
            self.transport.abort()
        elif self._to_write():
            self._watch_writing()

    def _to_write(self) -> int:
        return self.transport.get_write_buffer_size()


def _is_short(scope: Scope) -> bool:
    declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
    return declared.isdigit() and len(declared) < 10 and int(declared) <= SHORT_BODY_BYTES


async def _linger(receive: Receive) -> None:
    left = LINGER_BYTES
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            while left > 0:
                message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
                left -= len(message.get("body", b""))


class Server(uvicorn.Server):
    """uvicorn's server with `Listener` sockets and `Protocol` connections; configured by `install`."""

    connections: Connections
    head_s: float

    def __init__(self, config: uvicorn.Config) -> None:
        config.proxy_headers = False  # uvicorn would trust X-Forwarded-For and -Proto of every loopback peer
        super().__init__(config)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.config.http_protocol_class = functools.partial(  # type: ignore[assignment]
            Protocol, connections=self.connections, head_s=self.head_s
        )
        plain = self.config.ssl is None
        if sockets is not None:
            sockets = [Listener(one, self.connections, plain=plain) for one in sockets]
        await super().startup(sockets)


def install(connections: Connections, head_s: float) -> None:
    """Replace `uvicorn.Server` so that BentoML's worker serves with `Server`.

    The worker creates `uvicorn.Config` and `uvicorn.Server` after it has loaded the service, and has no setting for
    either (`_bentoml_impl/worker/service.py`, 1.4.39). `head_s` is in seconds.
    """
    Server.connections, Server.head_s = connections, head_s
    uvicorn.Server = Server  # type: ignore[misc]

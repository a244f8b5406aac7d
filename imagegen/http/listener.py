"""The listening socket: limits open connections, in total and per address.

A connection counts from `accept` to `close`, so TLS handshakes and silent connections count too. At a limit, the
connection that has been idle longest is closed to admit the new one. If every connection has a request in progress,
the new one is refused.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import logging
import socket
import time
from collections.abc import Iterator
from typing import Any

from imagegen.http.problems import problem_json
from imagegen.storage.descriptors import SLACK

log = logging.getLogger("imagegen.http")

RETRY_AFTER_S = 5
REFUSALS_AT_ONCE = 64
"""Refused connections per event loop iteration; the rest wait in the kernel's queue until the next one."""
LOOPBACK = "loopback"
LOOPBACK_SHARE = 8
"""One eighth of the connections is reserved for loopback clients: a reverse proxy, health checks, the CLI."""
LOG_EVERY_S = 10.0


class Connection(socket.socket):
    """An accepted connection; `busy` while a request is in progress."""

    def __init__(self, accepted: socket.socket, group: str, connections: Connections) -> None:
        super().__init__(fileno=accepted.detach())
        self.group, self._connections, self.evicted = group, connections, False
        self.descriptor = self.fileno()

    def close(self) -> None:
        self._connections.remove(self)
        super().close()

    def evict(self) -> None:
        """Shut the connection down; the transport sees EOF and closes the socket."""
        self.evicted = True
        with contextlib.suppress(OSError):
            self.shutdown(socket.SHUT_RDWR)


class Connections:
    """All open connections and their limits. `most`: in total; `most_per_address`: per client, except loopback."""

    def __init__(self, most: int, most_per_address: int) -> None:
        self.most, self.most_per_address = most, most_per_address
        self._open: dict[int, Connection] = {}  # by descriptor
        self._idle: dict[Connection, None] = {}  # without a request, longest idle first
        self._groups: dict[str, int] = {}
        self._logged_at = 0.0

    def __len__(self) -> int:
        return len(self._open)

    @property
    def full(self) -> bool:
        """Whether `accept` must wait until evicted sockets are closed."""
        return len(self._open) >= self.most + SLACK

    def of(self, descriptor: int) -> Connection | None:
        return self._open.get(descriptor)

    def add(self, accepted: socket.socket, address: Any) -> Connection | None:
        """Register a new connection, evicting an idle one if necessary. Returns None if the connection is refused."""
        group = group_of(address)
        if not self._make_room(group):
            self._log_refusal(group)
            return None
        connection = Connection(accepted, group, self)
        self._open[connection.descriptor] = connection
        self._groups[group] = self._groups.get(group, 0) + 1
        self._idle[connection] = None
        return connection

    def remove(self, connection: Connection) -> None:
        if self._open.get(connection.descriptor) is not connection:
            return
        del self._open[connection.descriptor]
        self._idle.pop(connection, None)
        self._leave(connection)

    def busy(self, connection: Connection) -> None:
        """Mark the connection busy: a request has started."""
        self._idle.pop(connection, None)

    def idle(self, connection: Connection) -> None:
        """Mark the connection idle: its request has ended."""
        if not connection.evicted and self._open.get(connection.descriptor) is connection:
            self._idle.pop(connection, None)
            self._idle[connection] = None

    def _leave(self, connection: Connection) -> None:
        if not connection.evicted:  # an evicted one was subtracted already
            self._groups[connection.group] -= 1
            if not self._groups[connection.group]:
                del self._groups[connection.group]

    def _make_room(self, group: str) -> bool:
        counted = sum(self._groups.values())
        strangers = counted - self._groups.get(LOOPBACK, 0)
        if group != LOOPBACK:
            if self._groups.get(group, 0) >= self.most_per_address:
                return self._evict_one(one for one in self._idle if one.group == group)
            if strangers >= self.most - self.most // LOOPBACK_SHARE:
                return self._evict_one(one for one in self._idle if one.group != LOOPBACK)
        return counted < self.most or self._evict_one(iter(self._idle))

    def _evict_one(self, candidates: Iterator[Connection]) -> bool:
        connection = next(candidates, None)
        if connection is None:
            return False
        del self._idle[connection]
        self._leave(connection)
        connection.evict()
        return True

    def _log_refusal(self, group: str) -> None:
        now = time.monotonic()
        if not self._logged_at or now - self._logged_at > LOG_EVERY_S:
            self._logged_at = now
            log.warning("connection refused: open=%d of_its_address=%d", len(self), self._groups.get(group, 0))


class Listener(socket.socket):
    """Replaces a listening socket; `accept` returns only connections within the limits."""

    def __init__(self, listening: socket.socket, connections: Connections, *, plain: bool) -> None:
        """plain: without TLS, a refused client gets an HTTP answer; with TLS its connection is closed."""
        super().__init__(fileno=listening.detach())
        self._connections, self._plain = connections, plain

    def accept(self) -> tuple[socket.socket, Any]:
        """Raises BlockingIOError if no connection is waiting or none can be accepted now."""
        for _ in range(REFUSALS_AT_ONCE):
            if self._connections.full:
                break
            accepted, address = super().accept()
            connection = self._connections.add(accepted, address)
            if connection is not None:
                return connection, address
            with accepted:
                if self._plain:
                    accepted.setblocking(False)
                    with contextlib.suppress(OSError):
                        accepted.send(REFUSAL)
                        accepted.shutdown(socket.SHUT_WR)
        raise BlockingIOError


def group_of(address: Any) -> str:
    """The group of clients that share a limit: one IPv4 address, an IPv6 /64, or loopback with Unix sockets."""
    if not isinstance(address, tuple):
        return LOOPBACK
    ip = ipaddress.ip_address(str(address[0]).split("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is None:
            return LOOPBACK if ip.is_loopback else str(ipaddress.ip_network((ip, 64), strict=False))
        ip = ip.ipv4_mapped
    return LOOPBACK if ip.is_loopback else str(ip)


def canned(status: str, code: str, detail: str, *headers: str) -> bytes:
    """A complete HTTP response with a problem document, for clients whose request was not read."""
    body = json.dumps(problem_json(int(status.split()[0]), code, detail)).encode()
    lines = [f"HTTP/1.1 {status}", "content-type: application/problem+json", f"content-length: {len(body)}"]
    return "\r\n".join([*lines, "connection: close", *headers, "", ""]).encode() + body


REFUSAL = canned(
    "503 Service Unavailable",
    "too_many_connections",
    "Too many open connections (IMAGEGEN_MAX_CONNECTIONS, IMAGEGEN_MAX_CONNECTIONS_PER_ADDRESS). Close some, or try "
    f"again in {RETRY_AFTER_S} s.",
    f"retry-after: {RETRY_AFTER_S}",
)

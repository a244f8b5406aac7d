"""The transport over httpx that blocks, and what it shares with the one that does not."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import httpx

from imagegen_client.address import Address, unusable_proxy
from imagegen_client.errors import Distrusted, NotTheService, ProxyRefused, ServiceError, Unreachable
from imagegen_client.trust import certificate_problem
from imagegen_client.wire import Call, Pause, Reply, Request

T = TypeVar("T")
Tokens = Callable[[], str | None]

CONNECT_S = 5.0
READ_S = 70.0
"""Longer than the service's longest long-poll of 50 s."""
LOST = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)
"""A pooled connection may have died with a restart of the service: such a request is sent once more."""


class Common:
    """What both transports do: headers, limits, and the error for each failure."""

    def __init__(self, address: Address, token: Tokens | None = None) -> None:
        self.address = address
        self.answered = False
        self._token = token or (lambda: address.token)

    def options(self, context: ssl.SSLContext | None) -> dict[str, Any]:
        """Arguments of httpx's clients. Plain http gets a context without CAs, because reading them takes long."""
        return {
            "base_url": self.address.url,
            "verify": context or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            "timeout": httpx.Timeout(READ_S, connect=CONNECT_S),
            "trust_env": not self.address.on_loopback,  # a proxy cannot reach this machine's loopback
        }

    def sent(self, request: Request) -> dict[str, Any]:
        """Arguments of httpx's `stream`."""
        headers = dict(request.headers)
        if not request.anonymous and (token := self._token()):
            headers["Authorization"] = f"Bearer {token}"
        body: dict[str, Any] = {} if request.json is None else {"json": request.json}
        if request.content is not None:
            body["content"] = request.content
        params = {} if request.params is None else {"params": dict(request.params)}
        return {"method": request.method, "url": request.route, "headers": headers} | params | body

    def add(self, body: bytearray, piece: bytes, request: Request) -> None:
        """Keep a piece of an answer. Raises NotTheService above the limit, before more is held in memory."""
        body += piece
        if len(body) > request.limit_bytes:
            raise NotTheService(
                "not_the_service", f"The answer to {request.route} is larger than {request.limit_bytes} bytes."
            )

    def reply(self, response: httpx.Response, body: bytearray) -> Reply:
        self.answered = True
        return Reply(response.status_code, _lower(response.headers), bytes(body))

    def refused_proxy(self, wrong: Exception) -> ServiceError:
        problem = None if self.address.on_loopback else unusable_proxy(wrong)
        return ProxyRefused("proxy_refused", problem or f"{self.address.url} is not an address of a service: {wrong}.")

    def unreachable(self, down: Exception) -> ServiceError:
        url = self.address.url
        if problem := certificate_problem(down):
            return Distrusted(
                "distrusted",
                f"The certificate of {url} is not trusted ({problem}), so nothing was sent. Set "
                "IMAGEGEN_TLS_SHA256 to the fingerprint that `imagegen tls show` prints on the service's "
                "machine, or IMAGEGEN_TLS_CA to the file of the CA that signed it.",
            )
        cause = type(down).__name__
        if isinstance(down, httpx.ReadTimeout):
            return Unreachable(
                f"The image service at {url} accepted the request and then sent nothing for {READ_S:g} s.",
                cause=cause,
                silent=True,
            )
        if isinstance(down, httpx.ConnectError | httpx.ConnectTimeout | OSError):
            return Unreachable(
                f"no service answers at {url}. Start one with `imagegen serve` on its machine, "
                "or set IMAGEGEN_URL to where it runs.",
                cause=cause,
                refused=True,
            )
        return Unreachable(f"the connection to {url} broke: {str(down) or cause}.", cause=cause)


class Transport(Common):
    """Runs calls and blocks. Threads may share it."""

    def __init__(self, address: Address, token: Tokens | None = None) -> None:
        super().__init__(address, token)
        self._opening = threading.Lock()
        self._http: httpx.Client | None = None

    def close(self) -> None:
        """Close the connections. The next call opens new ones."""
        with self._opening:
            if self._http is not None:
                self._http.close()
                self._http = None

    def run(self, call: Call[T]) -> T:
        """The result of a call. Raises ServiceError."""
        try:
            step = next(call)
            while True:
                try:
                    reply = self._take(step)
                except ServiceError as failed:
                    step = call.throw(failed)
                else:
                    step = call.send(reply)
        except StopIteration as done:
            result: T = done.value
            return result

    def _take(self, step: Request | Pause) -> Reply | None:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        return self.exchange(step)

    def exchange(self, request: Request) -> Reply:
        """Send one request and read its answer, with any status. Raises ServiceError."""
        http = self._open()
        for last in (False, True):
            try:
                with http.stream(**self.sent(request)) as response:
                    body = bytearray()
                    for piece in response.iter_bytes():
                        self.add(body, piece, request)
                    return self.reply(response, body)
            except httpx.TransportError as down:
                if last or not isinstance(down, LOST):
                    if certificate_problem(down):
                        self._forget(http)
                    raise self.unreachable(down) from None
        raise AssertionError("the last attempt returns or raises")

    def _forget(self, http: httpx.Client) -> None:
        """Let the next call build a new TLS context. The client stays open: other threads may use its connections."""
        with self._opening:
            if self._http is http:
                self._http = None

    def _open(self) -> httpx.Client:
        with self._opening:
            if self._http is None:
                try:
                    self._http = httpx.Client(**self.options(self.address.tls()))
                except OSError as down:
                    raise self.unreachable(down) from None
                except (ImportError, ValueError, httpx.InvalidURL) as wrong:
                    raise self.refused_proxy(wrong) from None
            return self._http


def _lower(headers: httpx.Headers) -> Mapping[str, str]:
    return {name.lower(): value for name, value in headers.items()}

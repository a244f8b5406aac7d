"""Two transports over httpx that run calls: one blocks, one does not."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import anyio
import anyio.to_thread
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


class _Common:
    """What both transports do: headers, limits, and the error for each failure."""

    def __init__(self, address: Address, token: Tokens | None = None) -> None:
        self.address = address
        self.answered = False
        self._token = token or (lambda: address.token)

    def _options(self, context: ssl.SSLContext | None) -> dict[str, Any]:
        """Arguments of httpx's clients. Plain http gets a context without CAs, because reading them takes long."""
        return {
            "base_url": self.address.url,
            "verify": context or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            "timeout": httpx.Timeout(READ_S, connect=CONNECT_S),
            "trust_env": not self.address.on_loopback,  # a proxy cannot reach this machine's loopback
        }

    def _sent(self, request: Request) -> dict[str, Any]:
        """Arguments of httpx's `stream`."""
        headers = dict(request.headers)
        if token := self._token():
            headers["Authorization"] = f"Bearer {token}"
        body: dict[str, Any] = {} if request.json is None else {"json": request.json}
        if request.content is not None:
            body["content"] = request.content
        params = {} if request.params is None else {"params": dict(request.params)}
        return {"method": request.method, "url": request.route, "headers": headers} | params | body

    def _add(self, body: bytearray, piece: bytes, request: Request) -> None:
        """Keep a piece of an answer. Raises NotTheService above the limit, before more is held in memory."""
        body += piece
        if len(body) > request.limit_bytes:
            raise NotTheService(
                "not_the_service", f"The answer to {request.route} is larger than {request.limit_bytes} bytes."
            )

    def _reply(self, response: httpx.Response, body: bytearray) -> Reply:
        self.answered = True
        return Reply(response.status_code, _lower(response.headers), bytes(body))

    def _refused_proxy(self, wrong: Exception) -> ServiceError:
        problem = None if self.address.on_loopback else unusable_proxy(wrong)
        return ProxyRefused("proxy_refused", problem or f"{self.address.url} is not an address of a service: {wrong}.")

    def _unreachable(self, down: Exception) -> ServiceError:
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
                f"The service at {url} accepted the request and then sent nothing for {READ_S:g} s.",
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


class Transport(_Common):
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
                with http.stream(**self._sent(request)) as response:
                    body = bytearray()
                    for piece in response.iter_bytes():
                        self._add(body, piece, request)
                    return self._reply(response, body)
            except httpx.TransportError as down:
                if last or not isinstance(down, LOST):
                    raise self._unreachable(down) from None
        raise AssertionError("the last attempt returns or raises")

    def _open(self) -> httpx.Client:
        with self._opening:
            if self._http is None:
                try:
                    self._http = httpx.Client(**self._options(self.address.tls()))
                except OSError as down:
                    raise self._unreachable(down) from None
                except (ImportError, ValueError, httpx.InvalidURL) as wrong:
                    raise self._refused_proxy(wrong) from None
            return self._http


class AsyncTransport(_Common):
    """Runs calls without blocking, under asyncio or trio."""

    def __init__(self, address: Address, token: Tokens | None = None) -> None:
        super().__init__(address, token)
        self._opening = anyio.Lock()
        self._http: httpx.AsyncClient | None = None

    async def aclose(self) -> None:
        """Close the connections. The next call opens new ones."""
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def run(self, call: Call[T]) -> T:
        """The result of a call. Raises ServiceError."""
        try:
            step = next(call)
            while True:
                try:
                    reply = await self._take(step)
                except ServiceError as failed:
                    step = call.throw(failed)
                else:
                    step = call.send(reply)
        except StopIteration as done:
            result: T = done.value
            return result

    async def _take(self, step: Request | Pause) -> Reply | None:
        if isinstance(step, Pause):
            await anyio.sleep(step.seconds)
            return None
        return await self.exchange(step)

    async def exchange(self, request: Request) -> Reply:
        """Send one request and read its answer, with any status. Raises ServiceError."""
        http = await self._open()
        for last in (False, True):
            try:
                async with http.stream(**self._sent(request)) as response:
                    body = bytearray()
                    async for piece in response.aiter_bytes():
                        self._add(body, piece, request)
                    return self._reply(response, body)
            except httpx.TransportError as down:
                if last or not isinstance(down, LOST):
                    if certificate_problem(down):
                        await self.aclose()  # the next call builds a new TLS context: no restart is needed
                    raise self._unreachable(down) from None
        raise AssertionError("the last attempt returns or raises")

    async def _open(self) -> httpx.AsyncClient:
        async with self._opening:
            if self._http is None:
                try:
                    context = await anyio.to_thread.run_sync(self.address.tls)
                    self._http = httpx.AsyncClient(**self._options(context))
                except OSError as down:
                    raise self._unreachable(down) from None
                except (ImportError, ValueError, httpx.InvalidURL) as wrong:
                    raise self._refused_proxy(wrong) from None
            return self._http


def _lower(headers: httpx.Headers) -> Mapping[str, str]:
    return {name.lower(): value for name, value in headers.items()}

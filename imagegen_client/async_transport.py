"""The transport over httpx that does not block."""

from __future__ import annotations

from typing import TypeVar

import anyio
import anyio.to_thread
import httpx

from imagegen_client.address import Address
from imagegen_client.errors import ServiceError
from imagegen_client.transport import LOST, Common, Tokens
from imagegen_client.trust import certificate_problem
from imagegen_client.wire import Call, Pause, Reply, Request

T = TypeVar("T")


class AsyncTransport(Common):
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
                async with http.stream(**self.sent(request)) as response:
                    body = bytearray()
                    async for piece in response.aiter_bytes():
                        self.add(body, piece, request)
                    return self.reply(response, body)
            except httpx.TransportError as down:
                if last or not isinstance(down, LOST):
                    if certificate_problem(down):
                        await self.aclose()  # the next call builds a new TLS context: no restart is needed
                    raise self.unreachable(down) from None
        raise AssertionError("the last attempt returns or raises")

    async def _open(self) -> httpx.AsyncClient:
        async with self._opening:
            if self._http is None:
                try:
                    context = await anyio.to_thread.run_sync(self.address.tls)
                    self._http = httpx.AsyncClient(**self.options(context))
                except OSError as down:
                    raise self.unreachable(down) from None
                except (ImportError, ValueError, httpx.InvalidURL) as wrong:
                    raise self.refused_proxy(wrong) from None
            return self._http

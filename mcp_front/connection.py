"""The front's connection to the service: imagegen_client's transport, the check for tokens, and error sentences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import anyio

import imagegen_client.errors as client_errors
from imagegen_client.address import Address
from imagegen_client.async_transport import AsyncTransport
from imagegen_client.wire import Call, Reply, Request, exchange, failure, read_json
from mcp_front.answers import ServiceError
from mcp_front.settings import Settings

T = TypeVar("T")

INSTANCE = "Imagegen-Instance"
"""Header that names the service's process. The service answers 412 to a request meant for another process."""
USE_AN_ID = "Use the id that a tool answered with."
WHAT_TO_DO = {
    "unknown_model": "Call list_models for what each of them is good at and which can draw now.",
    "job_not_found": USE_AN_ID,
    "image_not_found": USE_AN_ID,
}
"""What an agent does about the service's errors that do not say it."""
INSTANCE_CHANGES = 3
"""How often one request is sent again because the service restarted."""


class Connection:
    """Runs calls of imagegen_client. `bearer` returns the token of the current MCP call, or None.

    must_be_locked: send nothing to a service that requires no token.

    Every method raises ServiceError.
    """

    def __init__(self, settings: Settings, bearer: Callable[[], str | None], *, must_be_locked: bool = False) -> None:
        address = Address(settings.url, tls_sha256=settings.tls_sha256, tls_ca=settings.tls_ca)
        self._url = settings.url
        self._transport = (_LockedTransport if must_be_locked else AsyncTransport)(address, bearer)

    async def aclose(self) -> None:
        await self._transport.aclose()

    async def run(self, call: Call[T]) -> T:
        """The result of a call."""
        try:
            return await self._transport.run(call)
        except client_errors.ServiceError as failed:
            raise self._error(failed) from None

    async def json(self, method: str, route: str, *, params: Mapping[str, str] | None = None) -> Any:
        """The service's answer, decoded from JSON."""
        return await self.run(read_json(Request(method, route, params=params)))

    async def send(self, method: str, route: str) -> None:
        """Send a request whose answer has nothing to read."""
        await self.run(exchange(Request(method, route)))

    def _error(self, failed: client_errors.ServiceError) -> ServiceError:
        """The error as a sentence for an MCP client's user."""
        code, detail = failed.code, str(failed)
        match failed:
            case client_errors.Unreachable(silent=True):
                pass  # the sentence says it
            case client_errors.Unreachable(cause=cause):
                detail = (
                    f"The image service at {self._url} cannot be reached ({cause}). Start it with `imagegen serve` "
                    "(or `make serve`) on its machine, or set IMAGEGEN_URL to where it runs; then call again."
                )
            case client_errors.ProxyRefused():
                code = "unreachable"
            case client_errors.Unauthorized():
                detail = f"{detail} The MCP front sends the token in IMAGEGEN_TOKEN (over --http: the caller's own)."
            case client_errors.Expired(expired_at=str(moment)) if moment not in detail:
                detail = f"{detail} It expired at {moment}."
            case client_errors.NotFound(status=None):
                detail = f"{detail} {USE_AN_ID}"
            case _ if code in WHAT_TO_DO:
                detail = f"{detail} {WHAT_TO_DO[code]}"
        return ServiceError(code, detail)


class _LockedTransport(AsyncTransport):
    """Sends nothing to a service that requires no token.

    It checks each process of the service once and names it in every request (`Imagegen-Instance`); another process
    refuses the request with 412. If the service does not name its processes, it checks before every request.
    """

    def __init__(self, address: Address, bearer: Callable[[], str | None]) -> None:
        super().__init__(address, bearer)
        self._checking = anyio.Lock()
        self._locked_instance: str | None = None

    async def exchange(self, request: Request) -> Reply:
        """Send a request, repeated if the service restarts."""
        for last in (False,) * INSTANCE_CHANGES + (True,):
            instance = await self._locked()
            named = {INSTANCE: instance} if instance else {}
            reply = await super().exchange(replace(request, headers={**request.headers, **named}))
            if last or not instance or reply.headers.get(INSTANCE.lower()) == instance:
                return reply
            await self._forget(instance)  # another process answers at this address now
        raise AssertionError("the last attempt returns or raises")

    async def _locked(self) -> str | None:
        """The process of the service that requires tokens, as checked by this call or an earlier one."""
        async with self._checking:
            if self._locked_instance is None:
                self._locked_instance = await self._refuse_open_service()
            return self._locked_instance

    async def _forget(self, instance: str) -> None:
        async with self._checking:
            if self._locked_instance == instance:  # else another call has already checked the new process
                self._locked_instance = None

    async def _refuse_open_service(self) -> str | None:
        """Check that the service refuses a request without a token. Returns the name of the process that refused.

        A front that other machines reach must not give them access to a service without tokens. Only 401 and 403
        prove that the service requires one: a service that is starting, stopping or failing may be open.
        """
        reply = await super().exchange(Request("GET", "/api/status", anonymous=True))
        if reply.ok:
            raise client_errors.ServiceError(
                "open_service",
                "The image service asks for no token, and this MCP front can be reached from other machines, "
                "so it forwards no request. Set IMAGEGEN_TOKENS for the service, or IMAGEGEN_MCP_HOST=127.0.0.1 for "
                "the front. IMAGEGEN_ALLOW_ANONYMOUS=1 on the front serves other machines without a token.",
            )
        if reply.status not in {401, 403}:
            raise failure(reply)
        return reply.headers.get(INSTANCE.lower())

"""HTTP to the image service: one connection pool, its TLS trust, and an error sentence for each failure."""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import httpx

from mcp_front.answers import ServiceError
from mcp_front.settings import Settings, is_loopback
from mcp_front.trust import Distrusted, ssl_context

CONNECT_S = 5.0
READ_S = 60.0
"""Longer than the service's longest long-poll of 50 s."""

INSTANCE = "Imagegen-Instance"
"""Header that names the service's process. The service answers 412 to a request meant for another process."""
INSTANCE_CHANGES = 3
"""How often one request is sent again because the service restarted."""

MAX_JSON_BYTES = 8 * 1024 * 1024
MAX_PICTURE_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class Answer:
    """A response whose whole body was read and is within the size limit."""

    status: int
    content_type: str
    body: bytes
    instance: str | None = None


class Connection:
    """Sends requests to the image service. `bearer` returns the token of the current call, or None.

    must_be_locked: send nothing to a service that requires no token. The front checks each process of the service
    once and names it in every request (`Imagegen-Instance`); another process refuses the request with 412. If the
    service does not name its processes, the front checks before every request.

    Every method raises ServiceError.
    """

    def __init__(self, settings: Settings, bearer: Callable[[], str | None], *, must_be_locked: bool = False) -> None:
        self._settings = settings
        self._bearer = bearer
        self._must_be_locked = must_be_locked
        self._http: httpx.AsyncClient | None = None
        self._opening = anyio.Lock()
        self._checking = anyio.Lock()
        self._locked_instance: str | None = None

    async def aclose(self) -> None:
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def json(self, method: str, route: str, **request: Any) -> Any:
        """The service's answer, decoded from JSON."""
        answer = await self.send(method, route, **request)
        try:
            return json.loads(answer.body)
        except ValueError:
            raise self._not_the_service(answer) from None

    async def file(self, route: str, kind: str, params: Mapping[str, str] | None = None) -> bytes:
        """A file of the media type `kind`."""
        answer = await self.send("GET", route, params=params, limit=MAX_PICTURE_BYTES)
        if answer.content_type != kind:
            raise self._not_the_service(answer)
        return answer.body

    async def send(
        self,
        method: str,
        route: str,
        *,
        limit: int = MAX_JSON_BYTES,
        headers: Mapping[str, str] | None = None,
        **request: Any,
    ) -> Answer:
        """Send a request, repeated if the service restarts. `limit`: the most bytes of the answer that are read."""
        sent = dict(headers or {})
        if token := self._bearer():
            sent["Authorization"] = f"Bearer {token}"
        for _ in range(1 + INSTANCE_CHANGES):
            instance = await self._locked() if self._must_be_locked else None
            named = {INSTANCE: instance} if instance else {}
            answer = await self._exchange(method, route, limit, headers=sent | named, **request)
            if not named or answer.instance == instance:
                break
            await self._forget(instance)  # another process answers at this address now
        if 200 <= answer.status < 300:
            return answer
        raise self._refusal(answer)

    async def _exchange(self, method: str, route: str, limit: int, **request: Any) -> Answer:
        """Send one request and read its answer, with any status."""
        http = await self._open()
        # A pooled connection may have died with a restart of the service: such a request is sent once more.
        # All requests here can be repeated; a submission carries an Idempotency-Key.
        for last in (False, True):
            try:
                async with http.stream(method, route, **request) as response:
                    return await _read_within(response, limit)
            except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError) as lost:
                if last:
                    raise self._unreachable(lost) from None
            except httpx.TimeoutException as slow:
                raise self._unreachable(slow) from None
            except httpx.TransportError as down:
                await self._reset_if_distrusted(down)
                raise self._unreachable(down) from None
        raise AssertionError("the last attempt returns or raises")

    async def _open(self) -> httpx.AsyncClient:
        async with self._opening:
            if self._http is None:
                self._http = await self._connect()
            return self._http

    async def _connect(self) -> httpx.AsyncClient:
        try:
            context = await anyio.to_thread.run_sync(ssl_context, self._settings)
        except Distrusted as wrong:
            raise ServiceError("distrusted", str(wrong)) from None
        except OSError as down:
            raise self._unreachable(down) from None
        here = is_loopback(urlsplit(self._settings.url).hostname or "")
        try:
            return httpx.AsyncClient(
                base_url=self._settings.url,
                verify=context or True,
                timeout=httpx.Timeout(READ_S, connect=CONNECT_S),
                trust_env=not here,  # a proxy from the environment cannot reach this machine's loopback
            )
        except (ImportError, ValueError, httpx.InvalidURL) as wrong:
            raise ServiceError("unreachable", _proxy_refused(wrong)) from None

    async def _locked(self) -> str | None:
        """The process of the service that requires tokens, as checked by this call or an earlier one."""
        async with self._checking:
            if self._locked_instance is None:
                self._locked_instance = await self._refuse_open_service()
            return self._locked_instance

    async def _forget(self, instance: str | None) -> None:
        async with self._checking:
            if self._locked_instance == instance:  # else another call has already checked the new process
                self._locked_instance = None

    async def _refuse_open_service(self) -> str | None:
        """Check that the service refuses a request without a token. Returns the name of the process that refused.

        A front that other machines reach must not give them access to a service without tokens. Only 401 and 403
        prove that the service requires one: a service that is starting, stopping or failing may be open.
        """
        answer = await self._exchange("GET", "/api/status", MAX_JSON_BYTES)
        if 200 <= answer.status < 300:
            raise ServiceError(
                "open_service",
                "The image service asks for no token, and this MCP front can be reached from other machines, "
                "so it forwards no request. Set IMAGEGEN_TOKENS for the service, or IMAGEGEN_MCP_HOST=127.0.0.1 for "
                "the front. IMAGEGEN_ALLOW_ANONYMOUS=1 on the front serves other machines without a token.",
            )
        if answer.status not in {401, 403}:
            raise self._refusal(answer)
        return answer.instance

    async def _reset_if_distrusted(self, down: httpx.TransportError) -> None:
        """After a TLS failure the next call builds a new TLS context, so that the front needs no restart."""
        if _certificate_problem(down):
            await self.aclose()

    def _unreachable(self, down: Exception) -> ServiceError:
        url = self._settings.url
        if problem := _certificate_problem(down):
            return ServiceError(
                "distrusted",
                f"The certificate of {url} is not trusted ({problem}), so nothing was sent. Set "
                "IMAGEGEN_TLS_SHA256 to the fingerprint that `imagegen tls show` prints on the service's "
                "machine, or IMAGEGEN_TLS_CA to the file of the CA that signed it.",
            )
        if isinstance(down, httpx.ReadTimeout):
            return ServiceError(
                "unreachable",
                f"The image service at {url} accepted the request and then was silent for {READ_S:g} s.",
            )
        return ServiceError(
            "unreachable",
            f"The image service at {url} cannot be reached ({type(down).__name__}). Start it with `imagegen "
            "serve` (or `make serve`) on its machine, or set IMAGEGEN_URL to where it runs; then call again.",
        )

    def _not_the_service(self, answer: Answer) -> ServiceError:
        return ServiceError(
            "not_the_service",
            f"What answers at {self._settings.url} is not the image service: HTTP {answer.status} "
            f"with {answer.content_type}. "
            "Something else runs there, or a proxy is in between. Check IMAGEGEN_URL.",
        )

    def _refusal(self, answer: Answer) -> ServiceError:
        """The error in an RFC 9457 problem+json answer. Any other answer did not come from the service."""
        try:
            problem = json.loads(answer.body)
            code, detail = str(problem["code"]), str(problem["detail"])
        except (ValueError, KeyError, TypeError):
            return self._not_the_service(answer)
        if code == "unauthorized":
            detail = f"{detail} The MCP front sends the token in IMAGEGEN_TOKEN (over --http: the caller's own)."
        if code == "expired" and problem.get("expired_at"):
            moment = str(problem["expired_at"])
            detail = detail if moment in detail else f"{detail} It expired at {moment}."
        return ServiceError(code, detail)


def _proxy_refused(wrong: Exception) -> str:
    """Why httpx could not make a client. The URL was checked at the start, so the cause is a proxy variable."""
    pairs = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    named = [name for upper in pairs for name in (upper, upper.lower()) if os.environ.get(name)]
    why = "SOCKS proxies are not supported" if isinstance(wrong, ImportError) else str(wrong)
    return (
        f"{' or '.join(named) or 'IMAGEGEN_URL'} cannot be used: {why}. "
        "Set an http:// proxy, or name the service's host in NO_PROXY."
    )


async def _read_within(response: httpx.Response, limit: int) -> Answer:
    """Read the body. Raises ServiceError once it exceeds `limit` bytes, before more is held in memory."""
    body = bytearray()
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > limit:
            raise ServiceError("not_the_service", f"The answer to {response.url.path} is larger than {limit} bytes.")
    kind = response.headers.get("content-type", "no content type").split(";")[0]
    return Answer(response.status_code, kind, bytes(body), response.headers.get(INSTANCE))


def _certificate_problem(down: BaseException | None) -> str | None:
    """The TLS error that made a connection fail; None if the cause is another."""
    while down is not None:
        if isinstance(down, ssl.SSLCertVerificationError):
            return down.verify_message
        if isinstance(down, ssl.SSLError):
            return down.reason or str(down)
        down = down.__cause__ or down.__context__
    return None

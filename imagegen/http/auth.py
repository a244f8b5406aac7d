"""Authentication, as ASGI middleware in front of all routes, including BentoML's own."""

from __future__ import annotations

import base64
import ipaddress
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote_plus

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from imagegen.http.cors import origin_of
from imagegen.http.problems import problem
from imagegen.http.public import public_of
from imagegen.http.routes.session import COOKIE, Session, Sessions
from imagegen.schemas import Refused
from imagegen.security.hosts import Hosts
from imagegen.security.origins import Origins
from imagegen.security.rate_limit import RateLimit
from imagegen.security.tokens import Tokens

SAFE = {"GET", "HEAD", "OPTIONS"}
PRESENCE = "/api/events"
"""The only path where GET has a side effect: with `?presence=1` it keeps the model loaded."""
OPEN = {"/", "/favicon.ico", "/readyz", "/livez", "/healthz"}
STATIC = "/static/"
PICTURE = re.compile(r"/images/[0-9a-f]{32}\.(png|jpg|webp)")
"""Needs no token: a picture's id is 128 random bits, so its address cannot be guessed."""
SECRETS_OF_A_QUERY = {"token", "access_token", "api_key", "apikey", "auth", "authorization", "bearer"}

INSTANCE = "imagegen-instance"
"""Header that identifies the answering process. A request with this header is refused by any other process: the MCP
front checks each process once for whether it requires tokens, and a restarted service must not get its requests."""

HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
}


BASIC = "/sdapi/"
"""The only path prefix that accepts HTTP Basic, because clients of AUTOMATIC1111's API send nothing else. Browsers send
stored Basic credentials automatically, so Basic does not bypass the checks that a bearer token bypasses."""


@dataclass(frozen=True)
class Caller:
    """The name of the token that authenticated a request (None: no valid token), and how the token was sent."""

    name: str | None = None
    session: Session | None = None
    by_bearer: bool = False


class AuthMiddleware:
    """Refuses foreign hosts and origins, and requests without a valid token if tokens are set.

    Stores the token's name in the scope.
    """

    def __init__(
        self,
        app: ASGIApp,
        tokens: Tokens | None,
        sessions: Sessions,
        hosts: Hosts,
        rate: RateLimit,
        origins: Origins | None = None,
        basic: bool = True,
    ) -> None:
        """origins: origins whose pages may call with a bearer token. basic: accept HTTP Basic under BASIC."""
        self._app, self._basic, self._origins = app, basic, origins or Origins("")
        self._tokens, self._sessions, self._hosts, self._rate = tokens, sessions, hosts, rate
        self._instance = secrets.token_hex(16)
        self._headers = {**HEADERS, INSTANCE: self._instance}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # no route supports WebSocket
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            self._judge(scope)
        except Refused as refused:
            answer = problem(refused.status, refused.code, refused.detail, **refused.extra)
            await answer(scope, receive, _with_headers(send, self._headers))
            return
        await self._app(scope, receive, _with_headers(send, self._headers))

    def _judge(self, scope: Scope) -> None:
        """Raise Refused unless the request is allowed."""
        headers, method, path = Headers(scope=scope), scope["method"], scope["path"]
        if "\n" in path:  # Starlette's mounts do not match it, so BentoML would answer, without problem+json
            raise Refused(404, "not_found", "There is nothing at this address: it has a line end in it.")
        caller = self._caller(headers, path)
        called = self._check_hosts(scope, headers, caller)
        query = scope.get("query_string") or b""
        if method not in SAFE or (path == PRESENCE and _asks_presence(query)):
            self._check_origin(headers, called)
        self._check_instance(headers)
        _check_address(path, query)
        if self._tokens is None or is_open(method, path):
            return
        if caller.name is None:
            detail = (
                "This service needs a token: send it as the header `Authorization: Bearer …`. The operator of "
                "the service makes one with `imagegen token new NAME`."
            )
            raise Refused(401, "unauthorized", detail)
        if wait_s := self._rate.take(caller.name):
            detail = (
                f"The token {caller.name} makes too many requests (IMAGEGEN_RATE_LIMIT_PER_S). Go on in {wait_s} s."
            )
            raise Refused(429, "rate_limited", detail, retry_after_s=wait_s)
        scope["imagegen.owner"], scope["imagegen.session"] = caller.name, caller.session

    def _check_hosts(self, scope: Scope, headers: Headers, caller: Caller) -> list[str | None]:
        """Return the host names of the request: the Host header and the public address's host. Raises Refused.

        With a bearer token the Host header may name any host, because a hostile page does not have the token.
        """
        public = public_of(scope)
        host, forwarded = headers.get("host"), [public.host] if public else []
        own = self._hosts.allows(host, scope) or (caller.by_bearer and self._hosts.names_a_host(host))
        if len(headers.getlist("host")) > 1 or not own or not all(self._hosts.allows(one, scope) for one in forwarded):
            detail = (
                "The service was called by a name that is not its own, as a hostile web page would do it. If the "
                "name is right, add it to IMAGEGEN_ALLOWED_HOSTS (names separated by commas), or send a token as the "
                "header `Authorization: Bearer …`."
            )
            raise Refused(403, "foreign_host", detail)
        return [host, *forwarded]

    def _check_origin(self, headers: Headers, called: Sequence[str | None]) -> None:
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if self._origins.allows(origin_of(headers)):
            return
        foreign_site = site is not None and site not in {"same-origin", "none"}
        if foreign_site or (origin is not None and not self._hosts.same_origin(origin, *called)):
            detail = (
                "A page of another site made this request, and only the service's own page may change things. If the "
                "page is yours, add its origin to IMAGEGEN_CORS_ORIGINS."
            )
            raise Refused(403, "foreign_origin", detail)

    def _check_instance(self, headers: Headers) -> None:
        if headers.get(INSTANCE, self._instance) != self._instance:
            detail = (
                "The service was started again since the caller looked at it, and this request was for the process "
                "before. Nothing was done. Check the service again, then repeat the request."
            )
            raise Refused(412, "instance_changed", detail)

    def _caller(self, headers: Headers, path: str) -> Caller:
        """Identify the caller by the Authorization header if present, else by the session cookie.

        From a page of another origin only a bearer token counts: browsers send Basic and cookies automatically.
        """
        if self._tokens is None:
            return Caller()
        foreign = self._origins.allows(origin_of(headers))
        authorization = headers.get("authorization")
        if authorization is not None:
            scheme, _, given = authorization.partition(" ")
            if scheme.lower() == "bearer":
                name = self._tokens.name_of(given.strip())
                return Caller(name, by_bearer=name is not None)
            if scheme.lower() == "basic" and self._basic and path.startswith(BASIC) and not foreign:
                return Caller(self._tokens.name_of(_password(given)))
            return Caller()
        for header in [] if foreign else headers.getlist("cookie"):
            if cookie := cookie_parser(header).get(COOKIE):
                session = self._sessions.read(cookie)
                return Caller(session.name, session) if session else Caller()
        return Caller()


def _password(basic: str) -> str:
    """The password of HTTP Basic credentials (RFC 7617), which holds the token. The user name is ignored."""
    try:
        return base64.b64decode(basic.strip(), validate=True).decode().partition(":")[2]
    except ValueError:  # neither base64 nor UTF-8
        return ""


def is_open(method: str, path: str) -> bool:
    """Whether a request needs no token: the page and its files, probes, a picture by its address, and logout."""
    if method == "OPTIONS" or (method == "DELETE" and path == "/api/session"):
        return True
    return method in SAFE and (path in OPEN or path.startswith(STATIC) or PICTURE.fullmatch(path) is not None)


def _asks_presence(query: bytes) -> bool:
    given = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    return any(name == "presence" and value != "0" for name, value in given)


def _check_address(path: str, query: bytes) -> None:
    """Raise Refused if a parameter in the address is named like a secret. `;` also separates parameters: in paths
    (RFC 3986, 3.3), and in queries for older programs."""
    parameters = [*path.split(";")[1:], *map(unquote_plus, re.split("[&;]", query.decode("latin-1")))]
    names = {one.partition("=")[0].strip().lower().replace("-", "_") for one in parameters}
    if found := names & SECRETS_OF_A_QUERY:
        detail = (
            f"{min(found)} does not belong into an address, which logs and histories keep. Send the token as the "
            "header `Authorization: Bearer …`, and make a new one if this one was real."
        )
        raise Refused(400, "invalid_request", detail)


def _with_headers(send: Send, more: Mapping[str, str]) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in more.items():
                headers.setdefault(name, value)
        await send(message)

    return sending


class LoopbackOnly:
    """Without tokens, answers only requests that arrived on a loopback address.

    Checks each request's own socket, so the rule holds however the service was started (BentoML binds every address
    by default).
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"} or is_loopback(scope):
            await self._app(scope, receive, send)
            return
        detail = (
            "This service has no token, so it answers this machine only. Set IMAGEGEN_TOKENS to open it to others "
            "(or IMAGEGEN_ALLOW_ANONYMOUS=1 to open it without tokens)."
        )
        await problem(403, "lock_required", detail)(scope, receive, send)


def is_loopback(scope: Scope) -> bool:
    """Whether the request arrived on a loopback address or a Unix socket."""
    server = scope.get("server")
    if server is None or server[1] is None:
        return server is not None
    try:
        address = ipaddress.ip_address(server[0].split("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)

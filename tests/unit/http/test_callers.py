"""Who is let in by which credential, under which host and from which origin; CORS. On the lock itself, no service."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from pathlib import Path

import httpx
import pytest
from refusals import refused

from imagegen.http.asgi import make_app
from imagegen.http.auth import AuthMiddleware, LoopbackOnly
from imagegen.http.cors import Cors
from imagegen.http.routes.session import COOKIE, Sessions
from imagegen.security.hosts import Hosts
from imagegen.security.origins import Origins
from imagegen.security.rate_limit import RateLimit
from imagegen.security.tokens import Tokens
from imagegen.telemetry.metrics import Metrics

TOKEN = "a-token-of-anna-0"
BEARER = {"authorization": f"Bearer {TOKEN}"}
OBSIDIAN = "app://obsidian.md"
KNOWN = Tokens({"anna": hashlib.sha256(TOKEN.encode()).digest()})


def basic(password: str, user: str = "anybody") -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def ask(
    folder: Path, method: str, path: str, headers: dict[str, str], *, tokens: Tokens | None = KNOWN, a1111: bool = True
) -> httpx.Response:
    sessions, origins = Sessions(tokens, folder / "key"), Origins(OBSIDIAN)
    if headers.get("cookie") == "a valid one":
        headers = headers | {"cookie": f"{COOKIE}={sessions.cookie(sessions.begin('anna'))}"}
    app = make_app(sessions, Metrics())
    lock = AuthMiddleware(app, tokens, sessions, Hosts([]), RateLimit(50), origins, a1111)

    async def request() -> httpx.Response:
        transport = httpx.ASGITransport(Cors(lock, origins))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.request(method, path, headers=headers)

    return asyncio.run(request())


def code(answer: httpx.Response) -> str:
    """`not_found`: the request was let in, and there is nothing at the address."""
    body = answer.json()
    return str(body["code"])


# ---- hosts: every client in a container ---------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "headers", "expected"),
    [
        ("imagegen", BEARER, "not_found"),
        ("imagegen:8765", BEARER, "not_found"),
        ("192.0.2.7:8765", BEARER, "not_found"),
        ("imagegen", {}, "foreign_host"),
        ("imagegen", {"authorization": "Bearer wrong"}, "foreign_host"),
        ("imagegen", {"cookie": "a valid one"}, "foreign_host"),
        ("imagegen", basic(TOKEN), "foreign_host"),
        ("localhost#evil.example", BEARER, "foreign_host"),
        ("host.docker.internal:8765", BEARER, "not_found"),
        ("host.docker.internal:8765", {"cookie": "a valid one"}, "not_found"),
        ("host.docker.internal:8765", basic(TOKEN), "not_found"),
        ("host.containers.internal", {}, "unauthorized"),
        ("docker.internal", {}, "foreign_host"),
    ],
)
def test_a_bearer_token_alone_is_taken_under_any_host(tmp_path, host: str, headers: dict, expected: str) -> None:
    answer = ask(tmp_path, "GET", "/sdapi/v1/nowhere", {"host": host} | headers)
    assert code(answer) == expected
    if expected == "foreign_host":
        assert "IMAGEGEN_ALLOWED_HOSTS" in answer.json()["detail"]
        assert "Authorization: Bearer" in answer.json()["detail"]


def test_without_tokens_a_bearer_token_opens_no_host(tmp_path: Path) -> None:
    assert code(ask(tmp_path, "GET", "/nowhere", {"host": "imagegen"} | BEARER, tokens=None)) == "foreign_host"
    assert code(ask(tmp_path, "GET", "/nowhere", {"host": "host.docker.internal"}, tokens=None)) == "not_found"


@pytest.mark.parametrize(("origin", "expected"), [(OBSIDIAN, "not_found"), ("app://other", "foreign_origin")])
def test_without_tokens_a_named_origin_needs_none(tmp_path: Path, origin: str, expected: str) -> None:
    assert code(ask(tmp_path, "POST", "/nowhere", {"origin": origin}, tokens=None)) == expected


def test_a_second_host_does_not_hide_behind_an_own_one(tmp_path: Path) -> None:
    sessions = Sessions(None, tmp_path / "key")
    app = AuthMiddleware(make_app(sessions, Metrics()), None, sessions, Hosts([]), RateLimit(50))

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
            return await client.get("/nowhere", headers=[("host", "localhost"), ("host", "evil.example")])

    refused(asyncio.run(ask()), 403, "foreign_host")


def test_without_tokens_each_request_is_judged_by_its_own_socket(tmp_path: Path) -> None:
    """However the service was started: BentoML's --host knows nothing of our settings."""
    sessions = Sessions(None, tmp_path / "key")
    app = AuthMiddleware(LoopbackOnly(make_app(sessions, Metrics())), None, sessions, Hosts([]), RateLimit(50))

    async def ask(url: str) -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
            return await client.get(url)

    assert "IMAGEGEN_TOKENS" in refused(asyncio.run(ask("http://192.0.2.1:8765/api/nowhere")), 403, "lock_required")
    assert asyncio.run(ask("http://127.0.0.1:8765/api/nowhere")).status_code == 404
    assert asyncio.run(ask("http://[::1]:8765/api/nowhere")).status_code == 404


# ---- HTTP Basic ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "headers", "expected"),
    [
        ("/sdapi/v1/nowhere", basic(TOKEN), "not_found"),
        ("/sdapi/v1/nowhere", basic(TOKEN, user=""), "not_found"),
        ("/sdapi/v1/nowhere", BEARER, "not_found"),
        ("/sdapi/v1/nowhere", basic("wrong"), "unauthorized"),
        ("/sdapi/v1/nowhere", basic("", user=TOKEN), "unauthorized"),
        ("/sdapi/v1/nowhere", {"authorization": "Basic ???"}, "unauthorized"),
        ("/sdapi/v1/nowhere", {"authorization": "Basic /w=="}, "unauthorized"),
        ("/api/nowhere", basic(TOKEN), "unauthorized"),
        ("/v1/nowhere", basic(TOKEN), "unauthorized"),
        ("/sdapi", basic(TOKEN), "unauthorized"),
        ("/api/sdapi/v1", basic(TOKEN), "unauthorized"),
    ],
)
def test_basic_is_taken_under_sdapi_alone(tmp_path: Path, path: str, headers: dict, expected: str) -> None:
    assert code(ask(tmp_path, "GET", path, headers)) == expected


def test_basic_is_not_taken_where_the_api_is_off(tmp_path: Path) -> None:
    assert code(ask(tmp_path, "GET", "/sdapi/v1/nowhere", basic(TOKEN), a1111=False)) == "unauthorized"


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:1"])
def test_basic_opens_no_origin(tmp_path: Path, origin: str) -> None:
    """A browser that knows it sends it along with requests of any page."""
    headers = basic(TOKEN) | {"origin": origin}
    assert code(ask(tmp_path, "POST", "/sdapi/v1/nowhere", headers)) == "foreign_origin"


# ---- CORS ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/images/generations", "/sdapi/v1/txt2img", "/api/jobs/x"])
@pytest.mark.parametrize("host", ["127.0.0.1:8765", "imagegen"])
def test_a_preflight_of_a_named_origin_is_answered(tmp_path: Path, path: str, host: str) -> None:
    wanted = "authorization, content-type, x-stainless-lang"
    headers = {"access-control-request-method": "POST", "access-control-request-headers": wanted}
    private = {"access-control-request-private-network": "true"}
    answer = ask(tmp_path, "OPTIONS", path, {"host": host, "origin": OBSIDIAN} | headers | private)
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == OBSIDIAN
    assert answer.headers["access-control-allow-headers"] == wanted
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-private-network"] == "true"
    assert answer.headers["vary"] == "Origin"
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("origin", ["https://evil.example", "app://obsidian.md.evil", "null", "*"])
def test_another_origin_gets_no_header_of_cors(tmp_path: Path, origin: str) -> None:
    preflight = {"origin": origin, "access-control-request-method": "POST"}
    for method, headers in (("OPTIONS", preflight), ("GET", {"origin": origin} | BEARER)):
        answer = ask(tmp_path, method, "/v1/nowhere", headers)
        assert [name for name in answer.headers if name.startswith("access-control")] == []
        assert answer.headers["vary"] == "Origin"
    assert code(ask(tmp_path, "POST", "/v1/nowhere", {"origin": origin} | BEARER)) == "foreign_origin"


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (BEARER, "not_found"),
        (BEARER | {"cookie": "a valid one"}, "not_found"),
        ({"cookie": "a valid one"}, "unauthorized"),
        (basic(TOKEN), "unauthorized"),
        ({}, "unauthorized"),
    ],
)
def test_a_named_origin_is_let_in_by_a_bearer_token_alone(
    tmp_path: Path, method: str, headers: dict[str, str], expected: str
) -> None:
    site = {"origin": OBSIDIAN, "sec-fetch-site": "cross-site"}
    answer = ask(tmp_path, method, "/sdapi/v1/nowhere", site | headers)
    assert code(answer) == expected
    assert answer.headers["access-control-allow-origin"] == OBSIDIAN, "the page may read the refusal too"


def test_a_second_origin_does_not_hide_behind_a_named_one(tmp_path: Path) -> None:
    sessions, origins = Sessions(KNOWN, tmp_path / "key"), Origins(OBSIDIAN)
    app = make_app(sessions, Metrics())
    lock = Cors(AuthMiddleware(app, KNOWN, sessions, Hosts([]), RateLimit(50), origins), origins)

    async def request() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(lock), base_url="http://127.0.0.1") as client:
            two = [("origin", OBSIDIAN), ("origin", "https://evil.example"), *BEARER.items()]
            return await client.post("/v1/nowhere", headers=two)

    answer = asyncio.run(request())
    assert "access-control-allow-origin" not in answer.headers
    assert code(answer) == "foreign_origin"

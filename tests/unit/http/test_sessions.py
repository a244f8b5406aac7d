"""Sessions: when a cookie ends, forged cookies, and how the token begins a new one. On the lock itself, no service."""

from __future__ import annotations

import asyncio
import hashlib
import stat
from pathlib import Path

import httpx
from refusals import bearer, refused

from imagegen.http.asgi import make_app
from imagegen.http.auth import AuthMiddleware
from imagegen.http.routes.session import LIFE_S, Sessions
from imagegen.security.hosts import Hosts
from imagegen.security.rate_limit import RateLimit
from imagegen.security.tokens import Tokens
from imagegen.telemetry.metrics import Metrics

ANNA = "a-token-of-anna-0"
BERT = "a-token-of-bert-0"


def test_sessions_end_with_time_and_with_their_token_and_survive_a_restart(tmp_path: Path) -> None:
    def sessions(token: str, at: float) -> Sessions:
        digests = {"a.b": hashlib.sha256(token.encode()).digest()}
        return Sessions(Tokens(digests), tmp_path / "key", clock=lambda: at)

    session = sessions(ANNA, 1000.0).begin("a.b")
    expires = session.expires
    assert expires == 1000 + LIFE_S
    cookie = sessions(ANNA, 1000.0).cookie(session)
    assert sessions(ANNA, expires - 1).read(cookie) == session, "a service started again knows it"
    assert sessions(ANNA, expires).read(cookie) is None
    assert sessions(BERT, 1000.0).read(cookie) is None, "the token was replaced"
    assert Sessions(Tokens({}), tmp_path / "key", clock=lambda: 1000.0).read(cookie) is None
    name, _, mac = cookie.rsplit(".", 2)
    for forged in (
        f"{name}.{expires + 1}.{mac}",
        f"b.{expires}.{mac}",
        cookie[:-1],
        cookie + "0",
        "",
        "..",
        f"{name}.x.{mac}",
        f"{name}.{expires}.{'0' * 64}",  # a hexadecimal MAC, as cookies had it before itsdangerous
        f"é.{expires}.{mac}",
    ):
        assert sessions(ANNA, 1000.0).read(forged) is None, forged
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    (tmp_path / "key").unlink()
    assert sessions(ANNA, 1000.0).read(cookie) is None, "another key, another lock"


def test_a_session_cannot_renew_itself_and_the_token_begins_a_new_one(tmp_path: Path) -> None:
    """The whole way of a request, with a clock of the test's own."""
    now = 1000.0
    known = Tokens({"anna": hashlib.sha256(ANNA.encode()).digest()})
    sessions = Sessions(known, tmp_path / "key", clock=lambda: now)
    app = AuthMiddleware(make_app(sessions, Metrics()), known, sessions, Hosts([]), RateLimit(50))

    def begin(headers: dict[str, str]) -> httpx.Response:
        async def ask() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
                return await client.post("/api/session", headers=headers)

        return asyncio.run(ask())

    def cookie(answer: httpx.Response) -> dict[str, str]:
        return {"cookie": answer.headers["set-cookie"].split(";")[0]}

    first = begin(bearer(ANNA))
    assert f"Max-Age={LIFE_S}" in first.headers["set-cookie"]
    now += LIFE_S - 10
    renewed = begin(cookie(first))
    assert (renewed.status_code, renewed.json()) == (200, first.json()), "the same end as before"
    assert "Max-Age=10;" in renewed.headers["set-cookie"]
    fresh = begin(bearer(ANNA))
    assert fresh.json()["expires_at"] > first.json()["expires_at"]
    now += 10
    refused(begin(cookie(renewed)), 401, "unauthorized")
    assert begin(cookie(fresh)).status_code == 200

"""Browser sessions: exchange a token for an HttpOnly cookie, which authenticates pictures and event streams. Browsers
cannot send a header with those.

A cookie is `name.expires` signed by itsdangerous. The service stores no sessions, and cookies stay valid over restarts.
The signing key is the state folder's key followed by the token's digest: a session ends with its token, and the token
file alone is not enough to sign. `expires` is inside the signed value, because a new cookie of the same session must
expire with the first one. itsdangerous' own timestamp is the time of signing, which would restart the session's life.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from itsdangerous import BadSignature, Signer
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from imagegen.http import responses, serialize
from imagegen.http.context import is_https, owner_of, prefix, session_of
from imagegen.schemas import timestamp
from imagegen.security.tokens import Tokens
from imagegen.storage import permissions

COOKIE = "imagegen_session"
LIFE_S = 30 * 86400
"""The lifetime of a session from the request with the token. It is never extended."""
KEY_BYTES = 32
SALT = b"imagegen.session"
"""Separates these signatures from any other use of the key."""


@dataclass(frozen=True)
class Session:
    """A valid cookie's content: the token's name and the session's expiry (POSIX seconds)."""

    name: str
    expires: int


class Sessions:
    """Signs and verifies session cookies. `tokens` None: the service requires no token."""

    def __init__(self, tokens: Tokens | None, key_file: Path, clock: Callable[[], float] = time.time) -> None:
        self._tokens, self._key_file, self._clock = tokens, key_file, clock
        self._key: bytes | None = None

    def begin(self, name: str) -> Session:
        """A new session for the token `name`, which the request has just sent."""
        return Session(name, int(self._clock()) + LIFE_S)

    def cookie(self, session: Session) -> str:
        return self._signer(session.name).sign(f"{session.name}.{session.expires}").decode()

    def left_s(self, session: Session) -> int:
        return max(0, session.expires - int(self._clock()))

    def read(self, cookie: str) -> Session | None:
        """The cookie's session; None if the signature is invalid, the session has expired, or its token was removed."""
        name = "".join(cookie.rsplit(".", 2)[:-2])  # not verified yet: it only selects the key
        if self._tokens is None or self._tokens.digest_of(name) is None:
            return None
        try:
            signed = self._signer(name).unsign(cookie).decode()
        except BadSignature:
            return None
        expires = int(signed.rpartition(".")[2])
        return Session(name, expires) if expires > self._clock() else None

    def _signer(self, name: str) -> Signer:
        if self._key is None:
            self._key = _key(self._key_file)
        digest = (self._tokens.digest_of(name) if self._tokens else None) or b""
        return Signer(self._key + digest, salt=SALT, key_derivation="hmac", digest_method=hashlib.sha256)


def _key(file: Path) -> bytes:
    """The state folder's session key, created atomically at first use."""
    with contextlib.suppress(FileNotFoundError):
        kept = file.read_bytes()
        if len(kept) == KEY_BYTES:
            return kept
    fresh = secrets.token_bytes(KEY_BYTES)
    whole = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    with os.fdopen(permissions.open_private(whole, os.O_WRONLY | os.O_EXCL), "wb") as out:
        out.write(fresh)
    whole.replace(file)
    return fresh


async def begin(request: Request) -> Response:
    """Exchange the request's token for a cookie. If the service has no tokens, set no cookie.

    A request with a valid cookie gets the same session with the same expiry: otherwise a stolen cookie could be
    renewed forever.
    """
    name = owner_of(request)
    if name is None:
        return serialize.answer(responses.status.Session(name=None, expires_at=None))
    sessions: Sessions = request.app.state.sessions
    session = session_of(request) or sessions.begin(name)
    answer = serialize.answer(responses.status.Session(name=name, expires_at=timestamp(session.expires)))
    answer.set_cookie(
        COOKIE,
        sessions.cookie(session),
        max_age=sessions.left_s(session),
        path=prefix(request) or "/",
        httponly=True,
        samesite="strict",
        secure=is_https(request),
    )
    return answer


async def end(request: Request) -> Response:
    """Delete the browser's cookie."""
    answer = Response(status_code=204)
    answer.delete_cookie(COOKIE, path=prefix(request) or "/", httponly=True, samesite="strict")
    return answer


ROUTES = [
    Route("/api/session", begin, methods=["POST"]),
    Route("/api/session", end, methods=["DELETE"]),
]

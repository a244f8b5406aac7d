"""Sessions of browsers: a token is swapped for a cookie that scripts cannot read, so that pictures and event
streams, which cannot carry a header, are let in.

A cookie is `name.expires` signed by itsdangerous: the service stores no session, and a cookie is valid over restarts.
The signing key is the state folder's key followed by the token's digest: a session ends with its token, and the tokens'
file alone is not enough to sign. `expires` is inside the signed value, because a new cookie of the same session must
end when the first one does; itsdangerous' own timestamp is the time of signing, which would start the life again.
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
"""The life of a session, counted from the request that showed the token. Nothing prolongs it."""
KEY_BYTES = 32
SALT = b"imagegen.session"
"""Keeps these signatures apart from any other use of the key."""


@dataclass(frozen=True)
class Session:
    """A valid cookie's content: the token's name and the end of the session (POSIX seconds)."""

    name: str
    expires: int


class Sessions:
    """Makes cookies and knows them again. `tokens` None: nobody needs one."""

    def __init__(self, tokens: Tokens | None, key_file: Path, clock: Callable[[], float] = time.time) -> None:
        self._tokens, self._key_file, self._clock = tokens, key_file, clock
        self._key: bytes | None = None

    def begin(self, name: str) -> Session:
        """A new session for the owner of the token `name`, who has just shown the token."""
        return Session(name, int(self._clock()) + LIFE_S)

    def cookie(self, session: Session) -> str:
        return self._signer(session.name).sign(f"{session.name}.{session.expires}").decode()

    def left_s(self, session: Session) -> int:
        return max(0, session.expires - int(self._clock()))

    def read(self, cookie: str) -> Session | None:
        """The cookie's session; None if the signature is not ours, the session has ended, or its token was removed."""
        name = "".join(cookie.rsplit(".", 2)[:-2])  # not trusted yet: it only chooses the key
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
    """The state folder's key for sessions; made at its first use, whole or not at all."""
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
    """Swap the token that let this request in for a cookie; without tokens there is nothing to swap.

    A request that a cookie let in gets the same session again, with the same end: a stolen cookie could otherwise
    renew itself for ever.
    """
    name = owner_of(request)
    if name is None:
        return serialize.answer(responses.Session(name=None, expires_at=None))
    sessions: Sessions = request.app.state.sessions
    session = session_of(request) or sessions.begin(name)
    answer = serialize.answer(responses.Session(name=name, expires_at=timestamp(session.expires)))
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
    """Make the browser forget its cookie."""
    answer = Response(status_code=204)
    answer.delete_cookie(COOKIE, path=prefix(request) or "/", httponly=True, samesite="strict")
    return answer


ROUTES = [
    Route("/api/session", begin, methods=["POST"]),
    Route("/api/session", end, methods=["DELETE"]),
]

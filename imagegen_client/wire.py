"""Requests, replies, and calls that are made of them. No I/O: a transport runs a call, blocking or not.

A call is a generator. It yields a Request, and gets the Reply or the transport's error at that place; it yields a
Pause, and gets None; it returns its result. So waiting, retries and the reading of answers are written once.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from imagegen_client.errors import NotTheService, ServiceError, Unreachable, refusal

T = TypeVar("T")

MAX_JSON_BYTES = 8 * 1024 * 1024
MAX_PICTURE_BYTES = 256 * 1024 * 1024
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 8.0


@dataclass(frozen=True)
class Request:
    """An HTTP request. `limit_bytes`: the most bytes of the answer that are read. `anonymous`: sent without a token."""

    method: str
    route: str
    params: Mapping[str, str] | None = None
    json: Any = None
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    limit_bytes: int = MAX_JSON_BYTES
    anonymous: bool = False


@dataclass(frozen=True)
class Reply:
    """An answer with any status, whose whole body was read. The names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "no content type").split(";")[0]

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300


@dataclass(frozen=True)
class Pause:
    """Wait for so many seconds."""

    seconds: float


Call: TypeAlias = Generator["Request | Pause", "Reply | None", T]


@dataclass(frozen=True)
class Retries:
    """For how long a call is repeated: while the service is busy or restarts, not while there is no service.

    answered: whether the service has answered this client before, so that a refused connection means a restart.
    """

    for_s: float
    answered: Callable[[], bool] = lambda: False
    clock: Callable[[], float] = time.monotonic

    def pause_s(self, failed: ServiceError, attempt: int, since: float) -> float | None:
        """Seconds until the next attempt, None for an error that is to be raised. `attempt` counts from 0."""
        if isinstance(failed, Unreachable):
            passing = not failed.refused or self.answered()
        else:
            passing = failed.status in {429, 503} or failed.code == "request_timeout"
        if not passing:
            return None
        pause = failed.retry_after_s or min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**attempt)
        return pause if self.clock() + pause - since <= self.for_s else None


NO_RETRIES = Retries(0.0)


def exchange(request: Request, retries: Retries = NO_RETRIES) -> Call[Reply]:
    """The successful reply to a request. A request must be safe to repeat, by its method or an Idempotency-Key.

    Raises ServiceError.
    """
    attempt, since = 0, retries.clock()
    while True:
        try:
            reply = yield request
            assert reply is not None
            if reply.ok:
                return reply
            raise failure(reply)
        except ServiceError as failed:
            pause = retries.pause_s(failed, attempt, since)
            if pause is None:
                raise
        yield Pause(pause)
        attempt += 1


def read_json(request: Request, retries: Retries = NO_RETRIES) -> Call[Any]:
    """The reply's JSON. Raises ServiceError."""
    reply = yield from exchange(request, retries)
    try:
        return json.loads(reply.content)
    except ValueError:
        raise not_the_service(reply) from None


def read_file(route: str, kind: str, params: Mapping[str, str] | None, retries: Retries = NO_RETRIES) -> Call[bytes]:
    """A file of the media type `kind`. Raises ServiceError."""
    request = Request("GET", route, params=params, limit_bytes=MAX_PICTURE_BYTES)
    reply = yield from exchange(request, retries)
    if reply.content_type != kind:
        raise not_the_service(reply)
    return reply.content


def failure(reply: Reply) -> ServiceError:
    """The error for a reply with a status of failure."""
    return refusal(reply.status, reply.content, reply.headers.get("retry-after")) or not_the_service(reply)


def not_the_service(reply: Reply) -> NotTheService:
    """The error for an answer that the service does not give."""
    return NotTheService(
        "not_the_service",
        f"What answers is not the image service: HTTP {reply.status} with {reply.content_type}. "
        "Something else runs there, or a proxy is in between. Check IMAGEGEN_URL.",
        status=reply.status,
    )

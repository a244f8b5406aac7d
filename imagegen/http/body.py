"""Request bodies: size limits and strict parsing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import from_json
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from imagegen.http.problems import given_twice, invalid, problem, unknown_fields
from imagegen.schemas import Refused

M = TypeVar("M", bound=BaseModel)

MOST_VALUES = 100_000
"""The most commas and opening brackets in a JSON body. Sixteen pictures and two prompts of 12,000 commas stay below
25,000. Each value may cost hundreds of bytes and some microseconds; 25 MiB of small values cost a gigabyte and a
minute."""


BOM = b"\xef\xbb\xbf"
"""UTF-8's byte-order mark, which Windows programs write. RFC 8259, 8.1, allows a parser to skip it."""
OTHER_BOMS = (b"\xff\xfe", b"\xfe\xff")
"""The byte-order marks of UTF-16 and UTF-32. RFC 8259, 8.1, requires UTF-8."""


class BodyEncoding:
    """Refuses a body with a Content-Encoding (gzip, br …) with 415, because no route decodes it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _has_body(scope) and (encoding := encoding_of(Headers(scope=scope))):
            detail = f"The body has Content-Encoding {encoding[:64]!r}; send it without an encoding."
            answer = problem(415, "unsupported_media_type", detail)
            answer.headers["accept-encoding"] = "identity"  # RFC 9110, 15.5.16
            await answer(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _has_body(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    return "transfer-encoding" in headers or headers.get("content-length", "0").strip("0") != ""


def encoding_of(headers: Headers) -> str | None:
    """The Content-Encoding header, if it is not `identity`."""
    given = [one.strip() for value in headers.getlist("content-encoding") for one in value.split(",")]
    return ", ".join(one for one in given if one.lower() not in {"", "identity"}) or None


class OneValueEach:
    """Refuses a query string that names a parameter twice, because the intended value is ambiguous."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            query = (scope.get("query_string") or b"").decode("latin-1")
            if twice := repeated(name for name, _ in parse_qsl(query, keep_blank_values=True)):
                refused = given_twice(twice, "query string")
                await problem(refused.status, refused.code, refused.detail)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def repeated(names: Iterable[str]) -> list[str]:
    """The names that occur more than once."""
    return [name for name, times in Counter(names).items() if times > 1]


class BodyLimit:
    """Refuses a body over the limit with 413, by its Content-Length or by the bytes received. BentoML has no limit."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app, self._max = app, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._max:
            await self._answer(scope, receive, send)
            return
        taken, started = 0, False

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            if message["type"] == "http.request":
                taken += len(message.get("body", b""))
                if taken > self._max:
                    raise _TooLarge
            return message

        async def sending(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
            await send(message)

        try:
            await self._app(scope, counted, sending)
        except _TooLarge:
            if not started:
                await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        detail = f"The body is larger than {self._max} bytes (IMAGEGEN_MAX_BODY_BYTES). Send smaller pictures."
        await problem(413, "body_too_large", detail)(scope, receive, send)


class _TooLarge(BaseException):
    """Not an Exception, so that no handler between reports it as an internal error."""


async def read_json(request: Request, model: type[M], *, untyped: bool = False) -> M:
    """Parse the body as `model`. Raises Refused 415, 400 `bad_json`, 422 `invalid_request`.

    untyped: parse a body without a Content-Type as JSON.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if untyped and not kind:
        return parse(await read_bytes(request), model)
    if kind != "application/json" and not kind.endswith("+json"):
        raise Refused(415, "unsupported_media_type", "Send the request as JSON: Content-Type: application/json.")
    return parse(await read_bytes(request), model)


class _Object(BaseModel):
    model_config = ConfigDict(extra="allow")


async def read_object(request: Request, *, untyped: bool = False) -> dict[str, Any]:
    """Parse the body as a JSON object with any fields. Parameters and errors are those of `read_json`."""
    return (await read_json(request, _Object, untyped=untyped)).model_dump()


async def read_bytes(request: Request) -> bytes:
    """Read the whole body. Unlike Request.body, does not keep a copy on the request."""
    return b"".join([piece async for piece in request.stream()])


def parse(body: bytes, model: type[M]) -> M:
    """Parse JSON bytes as `model`. Skips a UTF-8 byte-order mark.

    Raises Refused 400 `bad_json`, also for NaN, infinities, bad UTF-8 and deep nesting; 422 `invalid_request`, also
    for a repeated field name in any object.
    """
    body = body.removeprefix(BOM)
    if body.startswith(OTHER_BOMS):
        raise Refused(400, "bad_json", "The body begins with the byte-order mark of UTF-16. Send JSON as UTF-8.")
    if sum(body.count(mark) for mark in b",[{") > MOST_VALUES:
        raise Refused(422, "invalid_request", "The body has far more values than any request of this service.")
    try:
        value: Any = from_json(body, allow_inf_nan=False)
        twice = _repeated_fields(body)
    except (ValueError, RecursionError) as error:
        raise Refused(400, "bad_json", f"The body is not JSON: {str(error)[:200]}.") from None
    if twice:
        raise given_twice(twice, "body")
    if not isinstance(value, dict):
        raise Refused(422, "invalid_request", 'The body must be a JSON object, such as {"prompt": "a red circle"}.')
    if model.model_config.get("extra") == "forbid":  # pydantic would make an error of each
        unknown = [name for name in value if name not in model.model_fields]
        if unknown:
            raise unknown_fields(unknown)
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise invalid(error) from None


def _repeated_fields(body: bytes) -> list[str]:
    """Field names that occur twice in one object of a valid JSON text.

    pydantic's parser silently keeps the last value and has no hook. Numbers are not converted, because Python limits
    their digits.
    """
    found: list[str] = []

    def note(pairs: list[tuple[str, Any]]) -> None:
        found.extend(repeated(name for name, _ in pairs))

    json.loads(body, strict=False, object_pairs_hook=note, parse_int=_unread, parse_float=_unread)
    return found


def _unread(_number: str) -> None:
    return None


def query_int(request: Request, name: str, default: int, low: int, high: int) -> int:
    """Parse an integer query parameter from `low` to `high`. Raises Refused 422."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and low <= int(text) <= high):
        raise Refused(422, "invalid_request", f"{name} must be a whole number from {low} to {high}.")
    return int(text)

"""Request bodies: capped while they arrive, parsed strictly."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from imagegen.http.problems import invalid, problem, unknown_fields
from imagegen.schemas import Refused

M = TypeVar("M", bound=BaseModel)

MOST_VALUES = 100_000
"""Commas and opening brackets of a JSON body. Sixteen pictures and two prompts of 12,000 commas stay below 25,000;
each value may cost hundreds of bytes and some microseconds, 25 MiB of small ones a gigabyte and a minute."""


class BodyLimit:
    """Refuses a body over the cap, by its Content-Length or while it arrives; BentoML itself has no limit."""

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
    """Not an Exception: nobody between may take it for an error of the service."""


async def read_json(request: Request, model: type[M]) -> M:
    """The body as `model`. Raises Refused 415, 400 `bad_json`, 422 `invalid_request`."""
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise Refused(415, "unsupported_media_type", "Send the request as JSON: Content-Type: application/json.")
    return parse(await read_bytes(request), model)


async def read_bytes(request: Request) -> bytes:
    """The whole body. Unlike Request.body, keeps no copy for as long as the request lasts."""
    return b"".join([piece async for piece in request.stream()])


def parse(body: bytes, model: type[M]) -> M:
    """JSON bytes as `model`; NaN, infinities, bad UTF-8 and deep nesting are not JSON here. Of two fields of one
    name the last one counts, as everywhere.
    """
    if sum(body.count(mark) for mark in b",[{") > MOST_VALUES:
        raise Refused(422, "invalid_request", "The body has far more values than any request of this service.")
    try:
        value: Any = from_json(body, allow_inf_nan=False)
    except (ValueError, RecursionError) as error:
        raise Refused(400, "bad_json", f"The body is not JSON: {str(error)[:200]}.") from None
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


def query_int(request: Request, name: str, default: int, low: int, high: int) -> int:
    """A whole number of the query string. Raises Refused 422."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and low <= int(text) <= high):
        raise Refused(422, "invalid_request", f"{name} must be a whole number from {low} to {high}.")
    return int(text)

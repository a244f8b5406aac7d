"""The list of pictures: find them by words and by what their jobs were."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from imagegen.http import responses, serialize
from imagegen.http.body import query_int
from imagegen.http.context import app_of, base_url
from imagegen.images.boards import clean_name
from imagegen.images.gallery import UPLOAD, Find
from imagegen.schemas import Kind, Refused
from imagegen.storage.search import MAX_QUERY_CHARS

FIELDS = (
    *("limit", "cursor", "before"),
    *("q", "model", "board", "kind", "kept", "from", "to", "min_size", "max_size"),
)
KINDS = (*(kind.value for kind in Kind), UPLOAD)
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_TIME = TypeAdapter(datetime)


async def gallery(request: Request) -> Response:
    app = app_of(request)
    if unknown := [name for name in request.query_params if name not in FIELDS]:
        shown = ", ".join(FIELDS)
        raise Refused(422, "invalid_request", f"{unknown[0][:60]!r} is not a parameter here. They are: {shown}.")
    limit = query_int(request, "limit", 50, 1, 200)
    images = await app.images.list(limit, find_of(request), _cursor(request))
    following = images[-1].seq if len(images) == limit else None
    items = [serialize.listed_image(image, base_url(request)) for image in images]
    return serialize.answer(responses.jobs.Images(items=items, next=following))


def _cursor(request: Request) -> int | None:
    """The number that the list continues below: `cursor`, or `before`, its name for clients of earlier versions."""
    if {"cursor", "before"} <= request.query_params.keys():
        raise Refused(422, "invalid_request", "Send cursor or before, not both: they mean the same.")
    return query_int(request, "cursor", 0, 0, 10**18) or query_int(request, "before", 0, 0, 10**18) or None


def find_of(request: Request) -> Find:
    """What the query parameters ask for. An empty value is none. Raises Refused 422."""
    given = {name: value for name, value in request.query_params.items() if value.strip()}

    def read(name: str, parse: Callable[[str, str], Any]) -> Any:
        return parse(name, given[name]) if name in given else None

    return Find(
        words=read("q", _words),
        model=given.get("model"),
        board=read("board", lambda _name, value: clean_name(value)),
        kind=read("kind", _kind),
        kept=read("kept", _flag),
        since=read("from", lambda name, value: _time(name, value).timestamp()),
        until=read("to", _until),
        min_px=query_int(request, "min_size", 0, 1, 100_000) if "min_size" in given else None,
        max_px=query_int(request, "max_size", 0, 1, 100_000) if "max_size" in given else None,
    )


def _words(name: str, value: str) -> str:
    if len(value) > MAX_QUERY_CHARS:
        raise Refused(422, "invalid_request", f"{name} must have at most {MAX_QUERY_CHARS} characters.")
    return value


def _kind(name: str, value: str) -> str:
    if value not in KINDS:
        raise Refused(422, "invalid_request", f"{name} must be one of {', '.join(KINDS)}.")
    return value


def _flag(name: str, value: str) -> bool:
    if value not in {"0", "1"}:
        raise Refused(422, "invalid_request", f"{name} must be 0 or 1.")
    return value == "1"


def _time(name: str, value: str) -> datetime:
    """A day or an RFC 3339 time; without an offset it is UTC."""
    try:
        if _DAY.fullmatch(value):
            return datetime.fromisoformat(value).replace(tzinfo=UTC)
        if re.match(r"\d{4}-\d{2}-\d{2}[Tt ]", value):
            at = _TIME.validate_python(value)
            return at if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, ValidationError):
        pass
    detail = f"{name} must be a day or a time, such as 2027-03-01 or 2027-03-01T08:30:00Z (a + is written %2B)."
    raise Refused(422, "invalid_request", detail)


def _until(name: str, value: str) -> float:
    """The end of the period, exclusive: a day is included."""
    at = _time(name, value)
    try:
        return (at + timedelta(days=1) if _DAY.fullmatch(value) else at).timestamp()
    except OverflowError:
        return at.timestamp()


ROUTES = [Route("/api/images", gallery, methods=["GET"])]

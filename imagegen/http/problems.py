"""Errors as `application/problem+json` (RFC 9457): a stable code, a title, a sentence that says what to do."""

from __future__ import annotations

import logging
from typing import Any

from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from imagegen.images import StorageError
from imagegen.schemas import Refused

log = logging.getLogger("imagegen.http")

TITLES = {
    "bad_json": "The body is not JSON",
    "unauthorized": "A token is needed",
    "lock_required": "Not open to other machines",
    "foreign_host": "Unknown host name",
    "foreign_origin": "Request from another site",
    "not_found": "Nothing here",
    "method_not_allowed": "Method not allowed",
    "job_not_found": "No such job",
    "image_not_found": "No such picture",
    "image_damaged": "The picture is damaged",
    "idempotency_conflict": "Key used for another request",
    "busy": "Busy",
    "expired": "Expired",
    "body_too_large": "The body is too large",
    "unsupported_media_type": "Unsupported media type",
    "invalid_request": "The request is not valid",
    "prompt_too_long": "The prompt is too long",
    "size_out_of_range": "The size is out of range",
    "job_too_large": "The job is too large",
    "unknown_model": "No such model",
    "unknown_image": "No such picture",
    "bad_image": "The picture cannot be read",
    "not_supported_by_model": "The model cannot do this",
    "queue_full": "The queue is full",
    "rate_limited": "Too many requests",
    "shutting_down": "The service is stopping",
    "storage_full": "The disk is full",
    "internal": "An error of the service",
}


def problem(status: int, code: str, detail: str, **extra: Any) -> JSONResponse:
    """A problem document; 429 and 503 say when to try again."""
    headers = {"retry-after": str(extra.pop("retry_after_s", 5))} if status in {429, 503} else None
    if status == 401:
        headers = {"www-authenticate": "Bearer"}
    body = {
        "type": "about:blank",
        "status": status,
        "code": code,
        "title": TITLES.get(code, code),
        "detail": detail,
    }
    return JSONResponse(body | extra, status, headers, media_type="application/problem+json")


async def refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return problem(error.status, error.code, error.detail, **error.extra)


async def storage(_request: Request, error: Exception) -> Response:
    reason = str(getattr(error, "orig", None) or error)
    log.error("the state folder fails: %s", type(error).__name__)
    full = "full" in reason or "No space" in reason or isinstance(error, StorageError)
    what = "The server's disk is full" if full else "The server's state folder cannot be written"
    return problem(507, "storage_full", f"{what}: the request was not taken. Free some space, then try again.")


async def http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return problem(404, "not_found", f"There is nothing at {request.url.path[:200]}.")
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        answer = problem(405, "method_not_allowed", f"{request.method} is not possible here; try {allowed}.")
        answer.headers["allow"] = allowed
        return answer
    return problem(error.status_code, "invalid_request", str(error.detail))


async def internal(request: Request, error: Exception) -> Response:
    log.error("an error of the service at %s %s", request.method, request.scope.get("path"), exc_info=error)
    return problem(500, "internal", "The service failed by an error of its own; its log says more. Try again.")


HANDLERS: dict[Any, Any] = {
    Refused: refused,
    DBAPIError: storage,
    StorageError: storage,
    HTTPException: http_error,
    Exception: internal,
}


def invalid(error: ValidationError) -> Refused:
    """A pydantic error as one sentence a field: unknown ones are refused by name."""
    sentences = []
    for one in error.errors(include_url=False)[:5]:
        where = ".".join(str(part) for part in one["loc"]) or "the body"
        match one["type"]:
            case "extra_forbidden":
                sentences.append(f"{where[:64]} is not a field of this request.")
            case "missing":
                sentences.append(f"{where} is missing.")
            case _:
                sentences.append(f"{where}: {one['msg']}.")
    return Refused(422, "invalid_request", " ".join(sentences))

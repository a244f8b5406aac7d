"""Errors as `application/problem+json` (RFC 9457): a stable code, a title, and a detail that says what to do."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from imagegen.schemas import PREVIEW_EVERY_MAX, Refused
from imagegen.storage.database import storage_failure
from imagegen.storage.errors import DatabaseUnavailable, StorageError, StorageFull

log = logging.getLogger("imagegen.http")

TITLES = {
    "bad_json": "The body is not JSON",
    "unauthorized": "A token is needed",
    "lock_required": "Not open to other machines",
    "foreign_host": "Unknown host name",
    "foreign_origin": "Request from another site",
    "not_found": "Not found",
    "method_not_allowed": "Method not allowed",
    "job_not_found": "No such job",
    "image_not_found": "No such picture",
    "board_not_found": "No such board",
    "board_exists": "The board exists",
    "keep_limit": "Too many kept pictures",
    "preview_not_found": "No preview",
    "image_damaged": "The picture is damaged",
    "instance_changed": "The service was started again",
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
    "unknown_lora": "No such LoRA",
    "lora_damaged": "The LoRA cannot be read",
    "lora_of_another_model": "The LoRA is of another model",
    "lora_not_supported": "The LoRA cannot be used",
    "webhook_refused": "The webhook cannot be used",
    "bad_image": "The picture cannot be read",
    "not_supported_by_model": "The model cannot do this",
    "strength_not_supported": "The model has no strength",
    "queue_full": "The queue is full",
    "rate_limited": "Too many requests",
    "request_timeout": "The request did not arrive in time",
    "too_many_connections": "Too many connections",
    "uploads_busy": "Too many uploads at once",
    "shutting_down": "The service is stopping",
    "storage_full": "The disk is full",
    "storage_error": "Storage error",
    "database_unavailable": "The database cannot be reached",
    "wait_too_long": "Waited too long",
    "not_completed": "The task has not ended",
    "cancelled": "The job was cancelled",
    "engine_died": "The engine died",
    "engine_hung": "The engine hung",
    "load_failed": "The model did not load",
    "licence_not_accepted": "The licence is not accepted",
    "managed_by_operator": "Only the operator may do this",
    "model_missing": "The model's files are missing",
    "engine_too_old": "The engine is too old for the model",
    "fetch_failed": "The model's files cannot be fetched",
    "gpu_busy": "The GPU is in use",
    "gpu_lost": "The GPU is gone",
    "out_of_vram": "The GPU's memory is too small",
    "gave_up": "The job was given up",
    "lease_expired": "The lease of the job ran out",
    "internal": "Internal error",
}


def problem(status: int, code: str, detail: str, **extra: Any) -> JSONResponse:
    """A problem response. 429 and 503 carry Retry-After: `retry_after_s` in seconds, default 5."""
    headers = {"retry-after": str(extra.pop("retry_after_s", 5))} if status in {429, 503} else None
    if status == 401:
        headers = {"www-authenticate": "Bearer"}
    body = problem_json(status, code, detail, **extra)
    return JSONResponse(body, status, headers, media_type="application/problem+json")


def problem_json(status: int, code: str, detail: str, **extra: Any) -> dict[str, Any]:
    """The problem document, with `extra` members."""
    title = TITLES.get(code, code)
    return {"type": "about:blank", "status": status, "code": code, "title": title, "detail": detail} | extra


async def refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return problem(error.status, error.code, error.detail, **error.extra)


async def storage(_request: Request, error: Exception) -> Response:
    failure = storage_failure(error)
    log.error("the state folder fails: %s", failure)
    status = 507 if isinstance(failure, StorageFull) else 503 if isinstance(failure, DatabaseUnavailable) else 500
    return problem(status, failure.code, f"{failure} The request was not carried out.")


async def http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return problem(404, "not_found", f"There is nothing at {request.url.path[:200]}.")
    return problem(error.status_code, "invalid_request", str(error.detail))


async def gone(_request: Request, _error: Exception) -> Response:
    """The client disconnected while sending its body or waiting for a picture. Not an error; the response is unread."""
    return Response(status_code=499)


HANDLERS: dict[Any, Any] = {
    Refused: refused,
    ClientDisconnect: gone,
    DBAPIError: storage,
    StorageError: storage,
    HTTPException: http_error,
}


_WRONG = {
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "string_type": "must be text",
    "list_type": "must be a list",
    "model_type": "must be a JSON object",
    "too_short": "must not be empty",
    "factor": "must be 2 or 4",
    "bool_type": "must be true or false",
    "preview_wish": f'must be "off", "auto" or a whole number from 1 to {PREVIEW_EVERY_MAX}',
}
"""Error messages by pydantic's error type. Other types keep pydantic's message."""
TOLD = 5
"""The most invalid fields that one error lists."""


def invalid(error: ValidationError) -> Refused:
    """Convert a pydantic error to Refused 422, one sentence per field."""
    sentences = []
    for one in error.errors(include_url=False, include_context=True)[:TOLD]:
        where = [str(part) for part in one["loc"]] or ["the body"]
        if where[-1] == "int":
            continue  # for `int | float`, the float error is enough
        if where[-1] == "float":
            where.pop()
        name = ".".join(where)
        match one["type"]:
            case "extra_forbidden":
                return unknown_fields([name])
            case "missing":
                sentences.append(f"{name} is missing.")
            case "literal_error":
                sentences.append(f"{name} must be one of {one['ctx']['expected']}.")
            case kind:
                sentences.append(f"{name} {_WRONG[kind]}." if kind in _WRONG else f"{name}: {one['msg']}.")
    return Refused(422, "invalid_request", " ".join(sentences))


def given_twice(names: Sequence[str], where: str) -> Refused:
    """Refused 422 for repeated names. The service does not guess which value was meant."""
    shown = ", ".join(repr(name if len(name) <= 64 else name[:60] + "…") for name in names[:TOLD])
    return Refused(422, "invalid_request", f"The {where} gives {shown} more than once. Send one value for each name.")


def unknown_fields(names: Sequence[str]) -> Refused:
    """Refused 422 that lists unknown fields. Ignoring a misspelt field would draw a different picture."""
    shown = ", ".join(repr(name if len(name) <= 64 else name[:60] + "…") for name in names[:TOLD])
    verb = "is not a field" if len(names) == 1 else "are not fields"
    return Refused(422, "invalid_request", f"{shown} {verb} of this request. Its fields are in docs/http.md.")

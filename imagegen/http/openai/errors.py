"""Errors in OpenAI's format."""

from __future__ import annotations

from typing import Any

CODES = {"unknown_model": "model_not_found", "rate_limited": "rate_limit_exceeded"}
PARAMS = {
    "prompt_too_long": "prompt",
    "size_out_of_range": "size",
    "unknown_model": "model",
    "bad_image": "image",
    "unknown_image": "image",
}
"""OpenAI's `param` by error code, for problems that do not name a parameter."""


def openai_error(problem: dict[str, Any]) -> dict[str, Any]:
    """Convert a problem document to OpenAI's error object."""
    code, status = problem["code"], problem["status"]
    kind = "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"
    param = problem.get("param", PARAMS.get(code))
    return {"error": {"message": problem["detail"], "type": kind, "param": param, "code": CODES.get(code, code)}}


def openai_status(problem: dict[str, Any]) -> int:
    """OpenAI's status for a problem: 404 for an unknown model, 400 instead of 422, otherwise the same."""
    status = int(problem["status"])
    if problem["code"] == "unknown_model":
        return 404
    return 400 if status == 422 else status

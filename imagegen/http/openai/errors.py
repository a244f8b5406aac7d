"""Errors in OpenAI's shape."""

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
"""Which of OpenAI's parameters a code is about, where the problem itself does not say."""


def openai_error(problem: dict[str, Any]) -> dict[str, Any]:
    """A problem document as OpenAI's error object."""
    code, status = problem["code"], problem["status"]
    kind = "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"
    param = problem.get("param", PARAMS.get(code))
    return {"error": {"message": problem["detail"], "type": kind, "param": param, "code": CODES.get(code, code)}}


def openai_status(problem: dict[str, Any]) -> int:
    """OpenAI answers 400 where we say 422, and 404 for a model that it does not have."""
    status = int(problem["status"])
    if problem["code"] in {"unknown_model"}:
        return 404
    return 400 if status == 422 else status

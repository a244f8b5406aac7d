"""Errors in AUTOMATIC1111's format: clients show `detail` or `errors`."""

from __future__ import annotations

from typing import Any


def sdapi_error(problem: dict[str, Any]) -> dict[str, Any]:
    """Convert a problem document to AUTOMATIC1111's error object. `error` is the problem's code."""
    return {"error": problem["code"], "detail": problem["detail"], "body": "", "errors": problem["detail"]}

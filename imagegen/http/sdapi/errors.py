"""Errors in the shape of AUTOMATIC1111's API: clients show `detail` or `errors`."""

from __future__ import annotations

from typing import Any


def sdapi_error(problem: dict[str, Any]) -> dict[str, Any]:
    """A problem document as AUTOMATIC1111's error object; `error` is the code."""
    return {"error": problem["code"], "detail": problem["detail"], "body": "", "errors": problem["detail"]}

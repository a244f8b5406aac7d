"""Errors under /v1 in OpenAI's shape: problems are made as everywhere else, and translated on their way out."""

from __future__ import annotations

import json
import re
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PROBLEM = "application/problem+json"
UNDER_V1 = re.compile(r"/+v1(?:/|$)")
"""OpenAI's addresses, also behind a base URL that ends in a slash: `//v1/models` is refused in OpenAI's shape."""
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


class OpenAIErrors:
    """Every problem of a route under /v1, whoever made it (the body limit, the lock, the router), translated."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or UNDER_V1.match(scope["path"]) is None:
            await self._app(scope, receive, send)
            return
        start: Message | None = None
        body = b""

        async def sending(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                if MutableHeaders(scope=message).get("content-type", "").startswith(PROBLEM):
                    start = message
                    return
            elif start is not None:
                body += message.get("body", b"")
                if not message.get("more_body", False):
                    await _translated(start, body)(scope, receive, send)
                return
            await send(message)

        await self._app(scope, receive, sending)


def _translated(start: Message, body: bytes) -> JSONResponse:
    problem = json.loads(body)
    answer = JSONResponse(openai_error(problem), openai_status(problem))
    if "job_id" in problem:  # the job itself failed: another one would, too
        answer.headers["x-should-retry"] = "false"
    for name, value in MutableHeaders(scope=start).items():
        if name not in {"content-type", "content-length"}:
            answer.headers[name] = value
    return answer

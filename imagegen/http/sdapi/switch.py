"""Disables the routes of AUTOMATIC1111's API if IMAGEGEN_A1111=0."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from imagegen.http.problems import problem

PREFIX = "/sdapi/"


class SdapiSwitch:
    """Answers 404 under /sdapi/ if the API is disabled."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(PREFIX):
            service = scope["app"].state.app
            if service is not None and not service.settings.a1111:
                detail = "AUTOMATIC1111's API is off here (IMAGEGEN_A1111=0). The other routes are in docs/http.md."
                await problem(404, "not_found", detail)(scope, receive, send)
                return
        await self._app(scope, receive, send)

"""The image service's routes, as methods."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import anyio

from mcp_front.answers import Check, Job, NextPage, Picture, ServiceError, Status, items, parsed
from mcp_front.connection import Connection
from mcp_front.models import Model
from mcp_front.settings import Settings
from mcp_front.templates import Template


class Service:
    """A client of the image service. Every method raises ServiceError unless it says otherwise."""

    def __init__(self, http: Connection) -> None:
        self._http = http

    async def aclose(self) -> None:
        await self._http.aclose()

    async def submit(self, body: Mapping[str, Any]) -> Job:
        """Submit a job, an edit if `body` has `images`. An Idempotency-Key makes repeating the request safe."""
        route = "/api/edit" if "images" in body else "/api/generate"
        headers = {"Idempotency-Key": uuid4().hex}
        return parsed(Job, await self._http.json("POST", route, json=dict(body), headers=headers), "job")

    async def check(self, body: Mapping[str, Any]) -> Check | None:
        """Check a request without submitting it. None from a service without this route. Raises what `submit` would."""
        try:
            return parsed(Check, await self._http.json("POST", "/api/check", json=dict(body)), "check")
        except ServiceError as failed:
            if failed.code != "not_found":
                raise
            return None

    async def upscale(self, body: Mapping[str, Any]) -> Job:
        """Submit a job that makes a larger copy of a picture."""
        headers = {"Idempotency-Key": uuid4().hex}
        with _not_there_yet("upscale pictures", "A larger picture can be drawn anew, with width and height."):
            answer = await self._http.json("POST", "/api/upscale", json=dict(body), headers=headers)
        return parsed(Job, answer, "job")

    async def keep(self, image_id: str) -> None:
        """Keep a picture beyond its expiry."""
        route = f"/api/images/{_segment(image_id)}/keep"
        with _not_there_yet("keep pictures", "A saved file stays; a URL can be downloaded until it expires."):
            await self._http.json("POST", route)

    async def job(self, job_id: str, *, wait_s: float = 0) -> Job:
        """Read a job once its status changes, or after `wait_s` (whole seconds, at most 50)."""
        params = {"wait": str(int(wait_s))} if wait_s >= 1 else None
        return parsed(Job, await self._http.json("GET", f"/api/jobs/{_segment(job_id)}", params=params), "job")

    async def jobs(self, limit: int, before: int | None = None) -> tuple[list[Job], int | None]:
        """The newest jobs, and the `before` of the next page, None at the end."""
        params = {"limit": str(limit)} | ({} if before is None else {"before": str(before)})
        answer = await self._http.json("GET", "/api/jobs", params=params)
        return items(Job, answer, "job"), parsed(NextPage, answer, "list of jobs").next

    async def cancel(self, job_id: str) -> Job:
        return parsed(Job, await self._http.json("DELETE", f"/api/jobs/{_segment(job_id)}"), "job")

    async def drop_lease(self, job_id: str) -> None:
        """Remove the job's lease: the service no longer cancels the job when no client reads it."""
        await self._http.send("DELETE", f"/api/jobs/{_segment(job_id)}/lease")

    async def upload(self, picture: bytes) -> str:
        """Upload a reference picture in any format that the service reads. Returns its image id."""
        headers = {"Content-Type": "application/octet-stream"}
        answer = await self._http.json("POST", "/api/images", content=picture, headers=headers)
        return parsed(Picture, answer, "picture").id

    async def picture(self, image_id: str) -> bytes:
        """The full-resolution PNG."""
        return await self._http.file(f"/images/{_segment(image_id)}.png", "image/png")

    async def preview(self, image_id: str, width_px: int) -> bytes:
        """A JPEG of the picture, scaled by the service to at most `width_px`."""
        return await self._http.file(f"/images/{_segment(image_id)}.jpg", "image/jpeg", {"w": str(width_px)})

    async def recent_images(self, limit: int) -> list[Picture]:
        """The newest pictures."""
        return items(Picture, await self._http.json("GET", "/api/images", params={"limit": str(limit)}), "picture")

    async def templates(self, model: str | None = None) -> list[Template]:
        """The prompt templates, with sizes for `model`, by default for the service's default model."""
        params = {"model": model} if model else None
        return items(Template, await self._http.json("GET", "/api/templates", params=params), "template")

    async def models(self) -> list[Model]:
        """The catalog."""
        return items(Model, await self._http.json("GET", "/api/models"), "model")

    async def model_limits(self) -> tuple[str, str] | None:
        """The default model and a sentence on what it cannot draw. None if the service reports no limits."""
        model = parsed(Status, await self._http.json("GET", "/api/status"), "state").model
        return (model.default, model.limits) if model.limits else None

    async def warm(self) -> None:
        await self._http.send("POST", "/api/warm")

    async def asks_for_token(self) -> bool:
        """Whether the service refuses this caller because it sent no token. Never raises."""
        try:
            await self._http.send("GET", "/api/status")
        except ServiceError as failed:
            return failed.code == "unauthorized"
        return False

    async def ready(self) -> bool:
        """Whether the service accepts jobs. Never raises."""
        try:
            await self._http.send("GET", "/readyz")
        except ServiceError:
            return False
        return True


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[Service]:
    """A Service that sends no token and whose connections are closed on exit."""
    service = Service(Connection(settings, lambda: None))
    try:
        yield service
    finally:
        with anyio.CancelScope(shield=True):
            await service.aclose()


@contextmanager
def _not_there_yet(what: str, instead: str) -> Iterator[None]:
    """Explain a 404 of a route that an older service lacks. `instead`: what the caller can do without it."""
    try:
        yield
    except ServiceError as failed:
        if failed.code != "not_found":
            raise
        raise ServiceError("not_there_yet", f"This image service cannot {what} yet. Tell the user. {instead}") from None


def _segment(identifier: str) -> str:
    """The id as one URL path segment. Raises ServiceError for text that is not an id, which could leave the route."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,128}", identifier):
        raise ServiceError(
            "not_found",
            f"{identifier[:80]!r} is not an id of this service. Use the id that a tool answered with.",
        )
    return quote(identifier, safe="")

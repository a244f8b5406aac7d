"""The image service's routes, as methods: the calls of imagegen_client, and what only the front asks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio

from imagegen_client import calls
from imagegen_client.pictures import Preview
from imagegen_client.watch import Update, Watch
from mcp_front.answers import Check, Job, Listed, Picture, ServiceError, Status, items, parsed
from mcp_front.connection import Connection
from mcp_front.loras import Lora
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
        """Submit a job, an edit if `body` has `images`."""
        return await self._http.run(calls.submit(body))

    async def check(self, body: Mapping[str, Any]) -> Check | None:
        """Check a request without submitting it. None from a service without this route. Raises what `submit` would."""
        try:
            return await self._http.run(calls.check(body))
        except ServiceError as failed:
            if failed.code != "too_old":
                raise
            return None

    async def upscale(self, body: Mapping[str, Any]) -> Job:
        """Submit a job that makes a larger copy of a picture."""
        with _not_there_yet("upscale pictures", "A larger picture can be drawn anew, with width and height."):
            return await self._http.run(calls.upscale(body))

    async def vary(self, body: Mapping[str, Any]) -> Job:
        """Submit a job that draws more pictures like one."""
        return await self._http.run(calls.vary(body))

    async def keep(self, image_id: str, wish: Mapping[str, str | None]) -> None:
        """Keep a picture beyond its expiry. wish: its `board` and `note`."""
        with _not_there_yet("keep pictures", "A saved file stays; a URL can be downloaded until it expires."):
            await self._http.run(calls.keep(image_id, wish))

    async def job(self, job_id: str) -> Job:
        return await self._http.run(calls.job(job_id))

    async def forming(self, job: Job) -> Preview | None:
        """The newest preview of a running job."""
        return await self._http.run(calls.preview(job))

    async def next(self, watch: Watch) -> Update | None:
        """The job's next reading."""
        return await self._http.run(watch.next())

    async def jobs(self, limit: int, before: int | None = None) -> tuple[list[Job], int | None]:
        """The newest jobs, and the `before` of the next page, None at the end."""
        return await self._http.run(calls.jobs(limit, before))

    async def cancel(self, job_id: str) -> Job:
        return await self._http.run(calls.cancel(job_id))

    async def drop_lease(self, job_id: str) -> None:
        """Remove the job's lease: the service no longer cancels the job when no client reads it."""
        await self._http.run(calls.drop_lease(job_id))

    async def upload(self, picture: bytes) -> str:
        """Upload a reference picture in any format that the service reads. Returns its image id."""
        return (await self._http.run(calls.upload(picture))).id

    async def picture(self, image_id: str) -> bytes:
        """The full-resolution PNG."""
        return await self._http.run(calls.png(image_id))

    async def preview(self, image_id: str, width_px: int) -> bytes:
        """A JPEG of the picture, scaled by the service to at most `width_px`."""
        return await self._http.run(calls.jpeg(image_id, width_px))

    async def recent_images(self, limit: int) -> list[Picture]:
        """The newest pictures."""
        found, _ = await self._http.run(calls.images(limit))
        return found

    async def find_images(self, wish: Mapping[str, str]) -> list[Listed]:
        """The newest pictures that `wish` describes, by the parameters of GET /api/images."""
        return items(Listed, await self._http.json("GET", "/api/images", params=wish), "picture")

    async def templates(self, model: str | None = None) -> list[Template]:
        """The prompt templates, with sizes for `model`, by default for the service's default model."""
        params = {"model": model} if model else None
        return items(Template, await self._http.json("GET", "/api/templates", params=params), "template")

    async def models(self) -> list[Model]:
        """The catalog."""
        return items(Model, await self._http.json("GET", "/api/models"), "model")

    async def loras(self) -> list[Lora]:
        """The LoRAs that some model can use. None from a service without this route."""
        try:
            found = items(Lora, await self._http.json("GET", "/api/loras"), "LoRA")
        except ServiceError as failed:
            if failed.code != "not_found":
                raise
            return []
        return [one for one in found if one.models]

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
        if failed.code not in {"too_old", "not_found"}:
            raise
        raise ServiceError("not_there_yet", f"This image service cannot {what} yet. Tell the user. {instead}") from None

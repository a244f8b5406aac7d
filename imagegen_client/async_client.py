"""The client for asyncio and trio."""

from __future__ import annotations

import os
import ssl
from types import TracebackType
from typing import Any, TypeVar, Unpack

import anyio.to_thread

from imagegen_client import calls
from imagegen_client.answers import Check, Inspection, JobState, Model, Provenance
from imagegen_client.async_transport import AsyncTransport
from imagegen_client.calls import DrawOptions, Fit, body_of
from imagegen_client.common import RETRY_S, Configured, Images, configured, file_of, id_of, keep_wish, loaded
from imagegen_client.jobs import AsyncJob
from imagegen_client.pictures import ImageLike, Picture, reference
from imagegen_client.wire import Call

T = TypeVar("T")


class AsyncClient(Configured):
    """The same client for asyncio and trio. Its arguments and methods are those of Client; the methods are awaited.

    Use it in one event loop: `async with AsyncClient() as client: …`.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        tls_sha256: str | None = None,
        tls_ca: str | os.PathLike[str] | None = None,
        verify: ssl.SSLContext | None = None,
        retry_s: float = RETRY_S,
    ) -> None:
        address = configured(url, token, tls_sha256, tls_ca, verify)
        self._transport = AsyncTransport(address)
        super().__init__(address, retry_s, lambda: self._transport.answered)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections. The next request opens new ones."""
        await self._transport.aclose()

    async def run(self, call: Call[T]) -> T:
        """The result of a call of calls.py."""
        return await self._transport.run(call)

    async def draw(self, prompt: str, **options: Unpack[DrawOptions]) -> AsyncJob:
        """Draw a picture from words. Returns the job: `await` it for its pictures."""
        body = body_of(options, prompt=prompt)
        return await self._job(calls.submit(body, options.get("idempotency_key"), self.retries))

    async def edit(
        self,
        image: Images,
        prompt: str,
        *,
        mask: ImageLike | None = None,
        fit: Fit | None = None,
        strength: float | None = None,
        **options: Unpack[DrawOptions],
    ) -> AsyncJob:
        """Change a picture by words; several pictures are references.

        mask: white areas may change. strength: how much the first picture may change, 0..1, where the model has it.
        """
        pictures, painted = await anyio.to_thread.run_sync(loaded, image, mask)
        body = body_of(options, prompt=prompt, fit=fit, strength=strength)
        return await self._job(calls.edit(body, pictures, painted, options.get("idempotency_key"), self.retries))

    async def upscale(self, image: ImageLike, **options: Unpack[calls.UpscaleOptions]) -> AsyncJob:
        """Make a larger copy of a picture: `factor` 2 or 4. Raises TooOld for a service that cannot."""
        picture = await anyio.to_thread.run_sync(reference, image)
        body = body_of(options)
        return await self._job(calls.upscale_picture(body, picture, options.get("idempotency_key"), self.retries))

    async def vary(self, of: ImageLike | AsyncJob, **options: Unpack[calls.VaryOptions]) -> AsyncJob:
        """Draw a job or a picture of the service again with other seeds (`n` of them), or another picture anew."""
        body, key = body_of(options), options.get("idempotency_key")
        if isinstance(of, AsyncJob):
            return await self._job(calls.vary_of(body, {"job_id": of.id}, key, self.retries))
        picture = await anyio.to_thread.run_sync(reference, of)
        return await self._job(calls.vary_of(body, {"image": picture}, key, self.retries))

    async def check(
        self,
        prompt: str,
        image: Images | None = None,
        *,
        mask: ImageLike | None = None,
        fit: Fit | None = None,
        strength: float | None = None,
        **options: Unpack[DrawOptions],
    ) -> Check:
        """What a request would become, without drawing. Raises what `draw` or `edit` would."""
        pictures, painted = await anyio.to_thread.run_sync(loaded, image, mask)
        return await self.run(
            calls.check_edit(
                body_of(options, prompt=prompt, fit=fit, strength=strength), pictures, painted, self.retries
            )
        )

    async def job(self, job_id: str) -> AsyncJob:
        """A job by its id."""
        return await self._job(calls.job(job_id, retries=self.retries))

    async def jobs(self, limit: int = 20) -> list[AsyncJob]:
        """The newest jobs, the newest first."""
        states, _ = await self.run(calls.jobs(limit, retries=self.retries))
        return [AsyncJob(self, state) for state in states]

    async def cancel_all(self) -> list[AsyncJob]:
        """Cancel the caller's waiting jobs, and return them. The running job goes on."""
        return [AsyncJob(self, state) for state in await self.run(calls.cancel_queued(self.retries))]

    async def images(self, limit: int = 20, **filters: Unpack[calls.ImageFilters]) -> list[Picture]:
        """The newest pictures that the filters let through, newest first, without their bytes: `read` fetches these."""
        found, _ = await self.run(calls.images(limit, retries=self.retries, filters=filters))
        return [Picture(info) for info in found]

    async def keep(self, image: Picture | str, *, board: str | None = None, note: str | None = None) -> Picture:
        """Keep a picture of the service beyond its expiry, also on a board or with a note."""
        return Picture(await self.run(calls.keep(id_of(image), keep_wish(board, note), self.retries)))

    async def unkeep(self, image: Picture | str) -> Picture:
        """Let a kept picture expire."""
        return Picture(await self.run(calls.unkeep(id_of(image), self.retries)))

    async def delete(self, image: Picture | str) -> None:
        """Delete a picture of the service before its time. It cannot be undone."""
        await self.run(calls.delete_image(id_of(image), self.retries))

    async def read(self, picture: Picture) -> Picture:
        """The picture with its bytes."""
        data = await self.run(calls.png(picture.id, self.retries))
        return Picture(picture.info, picture.job, data=data)

    async def upload(self, image: ImageLike) -> Picture:
        """Store a picture for edits, so that several edits need not send it again."""
        data = await anyio.to_thread.run_sync(file_of, image)
        return Picture(await self.run(calls.upload(data, self.retries)))

    async def inspect(self, image: ImageLike) -> Inspection:
        """How a PNG was made, also by another program, and what of it this service can draw with."""
        data = await anyio.to_thread.run_sync(file_of, image)
        return await self.run(calls.inspect(data, self.retries))

    async def verify(self, image: ImageLike) -> Provenance:
        """Who signed a picture, and whether it was changed since. Raises ServiceError."""
        data = await anyio.to_thread.run_sync(file_of, image)
        return await self.run(calls.verify(data, self.retries))

    async def models(self) -> list[Model]:
        """The catalog."""
        return await self.run(calls.models(self.retries))

    async def status(self) -> dict[str, Any]:
        """The state of the service: engine, queue, GPU."""
        return await self.run(calls.status(self.retries))

    async def warm(self, model: str | None = None) -> dict[str, Any]:
        """Load a model before a request needs it. Returns the state of the service."""
        return await self.run(calls.warm(model, self.retries))

    async def unload(self) -> dict[str, Any]:
        """End an idle engine, which frees its memory. Returns the state of the service."""
        return await self.run(calls.unload(self.retries))

    async def _job(self, call: Call[JobState]) -> AsyncJob:
        return AsyncJob(self, await self.run(call))

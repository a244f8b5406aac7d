"""The client that blocks."""

from __future__ import annotations

import os
import ssl
from types import TracebackType
from typing import Any, TypeVar, Unpack

from imagegen_client import calls
from imagegen_client.answers import Check, ImageInfo, Inspection, JobState, Model, Provenance
from imagegen_client.calls import DrawOptions, Fit, body_of
from imagegen_client.common import RETRY_S, Configured, Images, configured, file_of, id_of, keep_wish, loaded
from imagegen_client.jobs import Job
from imagegen_client.pictures import ImageLike, Picture, reference
from imagegen_client.transport import Transport
from imagegen_client.wire import Call

T = TypeVar("T")


class Client(Configured):
    """A client of an image service that blocks. Threads may share it.

    url: the service; default: IMAGEGEN_URL, else http://127.0.0.1:8765.
    token: default: IMAGEGEN_TOKEN.
    tls_sha256, tls_ca: the fingerprint that `imagegen tls show` prints, or a CA file; default: IMAGEGEN_TLS_SHA256,
    IMAGEGEN_TLS_CA, else the system's certificates. verify: a TLS context that replaces all of these.
    retry_s: for how many seconds a request is repeated while the service is busy or restarts; 0: never.

    Every method raises ServiceError; errors.py has its kinds.
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
        self._transport = Transport(address)
        super().__init__(address, retry_s, lambda: self._transport.answered)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. The next request opens new ones."""
        self._transport.close()

    def run(self, call: Call[T]) -> T:
        """The result of a call of calls.py."""
        return self._transport.run(call)

    def draw(self, prompt: str, **options: Unpack[DrawOptions]) -> Job:
        """Draw a picture from words. Returns at once: `.picture` and `.save` wait for it."""
        body = body_of(options, prompt=prompt)
        return self._job(calls.submit(body, options.get("idempotency_key"), self.retries))

    def edit(
        self,
        image: Images,
        prompt: str,
        *,
        mask: ImageLike | None = None,
        fit: Fit | None = None,
        strength: float | None = None,
        **options: Unpack[DrawOptions],
    ) -> Job:
        """Change a picture by words; several pictures are references.

        mask: white areas may change. strength: how much the first picture may change, 0..1, where the model has it.
        """
        pictures, painted = loaded(image, mask)
        body = body_of(options, prompt=prompt, fit=fit, strength=strength)
        return self._job(calls.edit(body, pictures, painted, options.get("idempotency_key"), self.retries))

    def upscale(self, image: ImageLike, **options: Unpack[calls.UpscaleOptions]) -> Job:
        """Make a larger copy of a picture: `factor` 2 or 4. Raises TooOld for a service that cannot."""
        body = body_of(options)
        key = options.get("idempotency_key")
        return self._job(calls.upscale_picture(body, reference(image), key, self.retries))

    def vary(self, of: ImageLike | Job, **options: Unpack[calls.VaryOptions]) -> Job:
        """Draw a job or a picture of the service again with other seeds (`n` of them), or another picture anew."""
        source = {"job_id": of.id} if isinstance(of, Job) else {"image": reference(of)}
        return self._job(calls.vary_of(body_of(options), source, options.get("idempotency_key"), self.retries))

    def check(
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
        pictures, painted = loaded(image, mask)
        return self.run(
            calls.check_edit(
                body_of(options, prompt=prompt, fit=fit, strength=strength), pictures, painted, self.retries
            )
        )

    def job(self, job_id: str) -> Job:
        """A job by its id."""
        return self._job(calls.job(job_id, retries=self.retries))

    def jobs(self, limit: int = 20) -> list[Job]:
        """The newest jobs, the newest first."""
        states, _ = self.run(calls.jobs(limit, retries=self.retries))
        return [Job(self, state) for state in states]

    def cancel_all(self) -> list[Job]:
        """Cancel the caller's waiting jobs, and return them. The running job goes on."""
        return [Job(self, state) for state in self.run(calls.cancel_queued(self.retries))]

    def images(self, limit: int = 20, **filters: Unpack[calls.ImageFilters]) -> list[Picture]:
        """The newest pictures that the filters let through, newest first. Their bytes are fetched when needed."""
        found, _ = self.run(calls.images(limit, retries=self.retries, filters=filters))
        return [self._picture(info) for info in found]

    def keep(self, image: Picture | str, *, board: str | None = None, note: str | None = None) -> Picture:
        """Keep a picture of the service beyond its expiry, also on a board or with a note."""
        return self._picture(self.run(calls.keep(id_of(image), keep_wish(board, note), self.retries)))

    def unkeep(self, image: Picture | str) -> Picture:
        """Let a kept picture expire."""
        return self._picture(self.run(calls.unkeep(id_of(image), self.retries)))

    def delete(self, image: Picture | str) -> None:
        """Delete a picture of the service before its time. It cannot be undone."""
        self.run(calls.delete_image(id_of(image), self.retries))

    def upload(self, image: ImageLike) -> Picture:
        """Store a picture for edits, so that several edits need not send it again."""
        return self._picture(self.run(calls.upload(file_of(image), self.retries)))

    def inspect(self, image: ImageLike) -> Inspection:
        """How a PNG was made, also by another program, and what of it this service can draw with."""
        return self.run(calls.inspect(file_of(image), self.retries))

    def verify(self, image: ImageLike) -> Provenance:
        """Who signed a picture, and whether it was changed since. Raises ServiceError."""
        return self.run(calls.verify(file_of(image), self.retries))

    def models(self) -> list[Model]:
        """The catalog."""
        return self.run(calls.models(self.retries))

    def status(self) -> dict[str, Any]:
        """The state of the service: engine, queue, GPU."""
        return self.run(calls.status(self.retries))

    def warm(self, model: str | None = None) -> dict[str, Any]:
        """Load a model before a request needs it. Returns the state of the service."""
        return self.run(calls.warm(model, self.retries))

    def unload(self) -> dict[str, Any]:
        """End an idle engine, which frees its memory. Returns the state of the service."""
        return self.run(calls.unload(self.retries))

    def read_png(self, image_id: str) -> bytes:
        """A picture's PNG file."""
        return self.run(calls.png(image_id, self.retries))

    def _job(self, call: Call[JobState]) -> Job:
        return Job(self, self.run(call))

    def _picture(self, info: ImageInfo) -> Picture:
        return Picture(info, fetch=self.read_png)

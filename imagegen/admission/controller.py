"""AdmissionController: turns a request into a job with all values resolved, or refuses it without side effects."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from imagegen.admission import repeats, resolution, validation
from imagegen.admission.digest import digest
from imagegen.admission.pictures import PictureReader, is_id
from imagegen.admission.upscaling import UpscalerChecks, check_upscaled_size, choose_upscaler
from imagegen.hardware.memory_mode import Shape
from imagegen.images.references import ON_WHITE, Reference
from imagegen.images.store import ImageStore
from imagegen.jobs.durations import Durations
from imagegen.jobs.manager import JobManager
from imagegen.jobs.values import NewJob
from imagegen.models.catalog import Catalog
from imagegen.models.entry import Entry
from imagegen.models.loras.folder import LoraFolder
from imagegen.prompts.guardrails import Guardrails, compose
from imagegen.requests import EditRequest, GenerateRequest, UpscaleRequest, VariationRequest, WebhookWish
from imagegen.schemas import EngineTexts, Job, Kind, Lora, Params, Policy, Refused, StoredImage, Warn
from imagegen.security.webhook_targets import BadTarget, Targets, Webhook
from imagegen.settings import Settings


class ModelChecks(UpscalerChecks, Protocol):
    """Checks of a model on this machine. See `worker.model_files.ModelFiles`."""

    def misfits(self, entry: Entry) -> Sequence[Warn]:
        """Warnings for known problems of the model on this machine."""

    def too_old(self, entry: Entry) -> str | None:
        """A sentence if the model needs a newer engine; else None."""

    def too_large(self, entry: Entry, shape: Shape) -> str | None:
        """Why a picture of this size certainly does not fit in the memory, and what does; None if it may. Blocks."""

    def unobtainable(self, entry: Entry) -> str | None:
        """Why the model cannot be loaded; None if no reason is known."""

    def unfamiliar(self, entry: Entry, kind: Kind, prompt: str) -> Sequence[Warn]:
        """Warnings for parts of the prompt that the model cannot draw."""


class AdmissionController:
    """Turns requests into jobs."""

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        guardrails: Guardrails,
        images: ImageStore,
        jobs: JobManager,
        durations: Durations,
        default_model: str,
        models: ModelChecks,
        loras: LoraFolder,
    ) -> None:
        self._settings, self._catalog, self._guardrails = settings, catalog, guardrails
        self._images, self._jobs, self._durations = images, jobs, durations
        self._pictures = PictureReader(settings, images)
        self._default_model, self._models, self._loras = default_model, models, loras
        self._targets = Targets.of(settings)

    async def admit(
        self,
        request: GenerateRequest,
        *,
        owner: str | None = None,
        idempotency_key: str | None = None,
        reduce_size: bool = False,
        warnings: Sequence[Warn] = (),
    ) -> Job:
        """Submit `request` as a job, or return the earlier job with the same idempotency key. Raises Refused.

        reduce_size: instead of refusing a size outside the model's range, use the nearest size in the range and add
        the warning `size_reduced`. For APIs whose clients have a default size and do not know the range.
        warnings: the transport's warnings; they come first in the job.
        """
        body_sha256, earlier = await self._earlier(request, owner, idempotency_key)
        if earlier is not None:
            return earlier
        new, wanted = await self._prepare(request, reduce_size=reduce_size)
        new = replace(
            new,
            warnings=(*warnings, *new.warnings),
            owner=owner,
            idempotency_key=idempotency_key,
            body_sha256=body_sha256,
        )
        return await self._submit(new, wanted)

    async def admit_upscale(
        self,
        request: UpscaleRequest,
        *,
        owner: str | None = None,
        idempotency_key: str | None = None,
        warnings: Sequence[Warn] = (),
    ) -> Job:
        """Submit an upscale as a job, or return the earlier job with the same idempotency key. Raises Refused.

        warnings: the transport's warnings; they come first in the job.
        """
        body_sha256, earlier = await self._earlier(request, owner, idempotency_key)
        if earlier is not None:
            return earlier
        validation.check_lease(request.lease_s)
        chosen = await asyncio.to_thread(choose_upscaler, request.model, self._catalog, self._settings, self._models)
        webhook = await self._webhook(request.webhook)
        wanted = _Wanted(kind=Kind.UPSCALE)
        source = await self._pictures.reference(request.image, wanted.warnings, "image", keep_px=None)
        if isinstance(source, StoredImage) and source.job_id is not None:
            wanted.warnings = [one for one in wanted.warnings if one != ON_WHITE]  # its copy keeps the transparency
        check_upscaled_size(source, request.factor, self._settings.max_upscaled_px)
        wanted.references = [source]
        params = Params.of_upscale(
            source.width * request.factor, source.height * request.factor, request.factor, chosen.method
        )
        self._check_duration(chosen.name, params)
        new = NewJob(
            kind=Kind.UPSCALE,
            model=chosen.name,
            prompt=await self._prompt_of(source),
            params=params,
            policy=Policy(negative="inert"),
            engine_texts=EngineTexts(prompt="", negative=""),
            warnings=(*warnings, *wanted.warnings, *chosen.warnings),
            lease_s=None if request.lease_s is None else float(request.lease_s),
            webhook=webhook,
            owner=owner,
            idempotency_key=idempotency_key,
            body_sha256=body_sha256,
        )
        return await self._submit(new, wanted)

    async def _earlier(
        self, request: GenerateRequest | UpscaleRequest, owner: str | None, key: str | None
    ) -> tuple[str | None, Job | None]:
        """The request's digest, and the job that has its idempotency key, if any. None, None without a key."""
        if key is None:
            return None, None
        validation.check_key(key)
        body_sha256 = await asyncio.to_thread(digest, request, self._settings.max_body_bytes)
        return body_sha256, await self._jobs.find_idempotent(owner, key, body_sha256)

    async def check(self, request: GenerateRequest) -> NewJob:
        """Return the job that `admit` would submit, without its pictures. Stores nothing. Raises Refused."""
        new, _ = await self._prepare(request)
        return new

    async def variation(self, wish: VariationRequest) -> GenerateRequest:
        """The request whose pictures are the variations that `wish` asks for. Raises Refused 404, 410, 422."""
        if (wish.image is None) == (wish.job_id is None):
            detail = "Say of what: image (a picture) or job_id, and not both."
            raise Refused(422, "invalid_request", detail, param="image")
        if wish.job_id is not None:
            return repeats.variation_of_job(await self._jobs.get(wish.job_id, renew=False), wish)
        assert wish.image is not None
        drawn_by = (await self._pictures.stored(wish.image, "image")).job_id if is_id(wish.image) else None
        job = None if drawn_by is None else await self._jobs.get(drawn_by, renew=False)
        if job is not None and job.kind is not Kind.UPSCALE:
            return repeats.variation_of_job(job, wish)
        return repeats.variation_of_picture(wish.image, wish)

    async def _prepare(self, request: GenerateRequest, *, reduce_size: bool = False) -> tuple[NewJob, _Wanted]:
        """Resolve all values of the request, and decode its pictures without storing them. Raises Refused."""
        entry = self._catalog.get(request.model or self._default_model)
        wanted = _Wanted()
        if reduce_size:
            request = resolution.reduce_size(request, entry, wanted.warnings, self._settings.max_dimension)
        validation.check(request, entry, self._settings, self._catalog)
        if (older := self._models.too_old(entry)) is not None:
            raise Refused(422, "engine_too_old", older)
        if (lacking := self._models.unobtainable(entry)) is not None:
            raise Refused(422, "model_missing", lacking)
        loras = await asyncio.to_thread(self._checked_loras, request, entry)
        webhook = await self._webhook(request.webhook)
        await self._load_references(request, wanted)
        params = resolution.resolve(request, entry, wanted.references, wanted.warnings, self._settings)
        self._check_duration(entry.name, params)
        await self._check_memory(entry, wanted, params)
        params = params.model_copy(update={"loras": loras})
        wanted.warnings += self._models.unfamiliar(entry, wanted.kind, request.prompt)
        takes_negative = entry.capabilities.negative
        composed = compose(
            self._guardrails, request.prompt, params.negative, params.cfg_scale, takes_negative, params.background
        )
        new = NewJob(
            kind=wanted.kind,
            model=entry.name,
            prompt=request.prompt,
            params=params,
            policy=composed.policy,
            engine_texts=EngineTexts(prompt=composed.prompt, negative=composed.negative),
            warnings=(*wanted.warnings, *composed.warnings, *self._models.misfits(entry)),
            lease_s=None if request.lease_s is None else float(request.lease_s),
            preview=request.preview or "off",
            draft=bool(request.draft),
            webhook=webhook,
        )
        return new, wanted

    async def _load_references(self, request: GenerateRequest, wanted: _Wanted) -> None:
        """Decode all pictures of an edit before any is stored. Raises Refused."""
        if isinstance(request, EditRequest):
            wanted.kind = Kind.EDIT
            wanted.references = [await self._pictures.reference(one, wanted.warnings) for one in request.images]
            if request.mask is not None:
                wanted.mask = await self._pictures.mask(request.mask, wanted.warnings)
                validation.check_shape(wanted.mask, wanted.references[0])

    async def _prompt_of(self, source: StoredImage | Reference) -> str:
        """The prompt of the job that made a stored picture, to recognise its larger copy by; empty without one."""
        if not isinstance(source, StoredImage) or source.job_id is None:
            return ""
        try:
            return (await self._jobs.get(source.job_id, renew=False)).prompt
        except Refused:  # it has expired
            return ""

    async def _submit(self, new: NewJob, wanted: _Wanted) -> Job:
        """Store the uploaded pictures and the job. Discards the pictures if the job is refused."""
        uploads: list[StoredImage] = []  # on disk, invisible until the job is stored
        job = None
        try:
            references = [await self._pictures.store(one, uploads) for one in wanted.references]
            mask = None if wanted.mask is None else await self._pictures.store(wanted.mask, uploads)
            job = await self._jobs.submit(replace(new, references=tuple(references), mask=mask, uploads=tuple(uploads)))
        finally:
            taken = () if job is None else (*job.references, job.mask)
            await self._images.discard([image for image in uploads if image.id not in taken])
        return job

    async def upload(self, data: bytes) -> StoredImage:
        """Store a reference picture. Raises Refused 422 `bad_image`."""
        return await self._pictures.upload(data)

    def _checked_loras(self, request: GenerateRequest, entry: Entry) -> tuple[Lora, ...]:
        """The request's LoRAs by the names of their files. Raises Refused 422."""
        found = [(self._loras.checked(one.name, entry).name, one.strength) for one in request.loras or []]
        names = [name for name, _ in found]
        if twice := [name for name in names if names.count(name) > 1]:
            detail = f"loras names {twice[0]!r} more than once. Name it once, with the strength that it shall have."
            raise Refused(422, "invalid_request", detail, param="loras")
        return tuple(Lora(name=name, strength=float(strength)) for name, strength in found)

    def _check_duration(self, model: str, params: Params) -> None:
        """Raise Refused 422 `job_too_large` if the job is expected to exceed IMAGEGEN_MAX_JOB_S."""
        expected = self._durations.job(model, params)
        if expected is not None and expected > self._settings.max_job_s:
            raise Refused(
                422,
                "job_too_large",
                f"This would take about {expected:.0f} s here; at most {self._settings.max_job_s:g} s are allowed "
                "(IMAGEGEN_MAX_JOB_S). Ask for fewer steps, a smaller picture or fewer pictures.",
            )

    async def _check_memory(self, entry: Entry, wanted: _Wanted, params: Params) -> None:
        """Raise Refused 422 `job_too_large` if the memory is known to be too small for the job."""
        shape = Shape(wanted.kind, params.width, params.height, len(wanted.references))
        if (why := await asyncio.to_thread(self._models.too_large, entry, shape)) is not None:
            raise Refused(422, "job_too_large", why)

    async def _webhook(self, wish: WebhookWish | None) -> Webhook | None:
        """The request's webhook, or else the operator's. Raises Refused 422 `webhook_refused`."""
        settings = self._settings
        if wish is None:
            return Webhook(settings.webhook_url, settings.webhook_secret or None) if settings.webhook_url else None
        webhook = Webhook(wish.url, wish.secret)
        try:
            await self._targets.check(webhook)
        except BadTarget as wrong:
            raise Refused(422, "webhook_refused", f"webhook: {wrong}.", param="webhook") from None
        return webhook


@dataclass
class _Wanted:
    """The checked inputs of a request, not yet stored."""

    kind: Kind = Kind.GENERATE
    references: list[StoredImage | Reference] = field(default_factory=list)
    mask: Reference | None = None
    warnings: list[Warn] = field(default_factory=list)

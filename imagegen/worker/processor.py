"""ImageProcessor: builds the engine's draw requests, and checks, labels and stores its pictures."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from imagegen.engines.base import DrawRequest, LoraUse
from imagegen.images import blank as sanity
from imagegen.images import convert, cutout
from imagegen.images.png import finish_png
from imagegen.images.provenance.signer import Signer
from imagegen.images.store import ImageStore
from imagegen.models.catalog import Catalog
from imagegen.models.entry import Entry
from imagegen.models.loras.folder import LoraFolder
from imagegen.prompts.guardrails import Guardrails, compose
from imagegen.schemas import BACKGROUND_REMOVED, SEED_MAX, EngineTexts, Job, Params, Refused, StoredImage, Warn
from imagegen.settings import Settings
from imagegen.worker.labels import Labels


class ImageProcessor:
    """Prepares and stores each picture of a job. Pillow and disk work runs in threads."""

    def __init__(
        self,
        images: ImageStore,
        guardrails: Guardrails,
        catalog: Catalog,
        loras: LoraFolder,
        settings: Settings,
        signer: Signer | None = None,
    ) -> None:
        """signer: None where pictures are not signed."""
        self._images, self._guardrails, self._catalog = images, guardrails, catalog
        self._loras, self._settings, self._labels = loras, settings, Labels(settings, signer)

    async def preprocess(self, job: Job, seed: int) -> DrawRequest:
        """The draw request for one picture. Raises Refused if a reference or a LoRA is gone or damaged."""
        entry, p = self._catalog.get(job.model), job.params
        texts = job.engine_texts
        if texts is None:
            composed = compose(self._guardrails, job.prompt, p.negative, p.cfg_scale, entry.capabilities.negative)
            texts = EngineTexts(prompt=composed.prompt, negative=composed.negative)
        references = []
        for image_id in job.references:
            png = await self._images.read(image_id)
            references.append(await asyncio.to_thread(convert.fit, png, p.width, p.height, p.fit or "contain"))
        mask = None
        if job.mask is not None:  # fitted like its picture: `contain` adds white bars, which may change
            png = await self._images.read(job.mask)
            mask = await asyncio.to_thread(convert.fit, png, p.width, p.height, p.fit or "contain")
        return DrawRequest(
            prompt=texts.prompt,
            negative=texts.negative,
            width=p.width,
            height=p.height,
            steps=p.steps_run,
            cfg_scale=p.cfg_scale,
            sampler=p.sampler,
            scheduler=p.scheduler,
            seed=seed,
            references=tuple(references),
            strength=p.strength,
            mask=mask,
            options=entry.request_options(p.speed),
            loras=entry.loras(self._settings) + await asyncio.to_thread(self._checked_loras, job.params, entry),
            preview=entry.preview_look.plan(job.preview),
        )

    def _checked_loras(self, params: Params, entry: Entry) -> tuple[LoraUse, ...]:
        """The request's LoRAs, checked again: their files may have changed, or the model's were not there before."""
        found = [(self._loras.checked(one.name, entry).path, one.strength) for one in params.loras]
        return tuple(LoraUse(path, strength) for path, strength in found if strength)

    async def check_blank(self, job: Job, png: bytes) -> sanity.Finding | None:
        """The finding if the engine's picture has a single colour; None if not, or if the file is damaged."""
        try:
            return await asyncio.to_thread(sanity.check_blank, png, job.model, job.params.cfg_scale)
        except (OSError, SyntaxError, ValueError):  # Pillow's errors for a damaged file: `postprocess` raises BrokenPng
            return None

    async def cut_out(self, job: Job, index: int, png: bytes) -> tuple[bytes, Warn | None]:
        """Cut the background out if the job asks for that. Returns the picture, and what became of its background.

        Raises BrokenPng.
        """
        if job.params.background != "transparent":
            return png, None
        await asyncio.to_thread(finish_png, png, None)  # Pillow would decode a damaged file
        cut = await asyncio.to_thread(cutout.cut_out, png)
        if cut.png is not None:
            return cut.png, cutout.REMOVED
        which = f"of picture {index + 1} " if job.params.n > 1 else ""
        return png, Warn(
            code="background_kept", detail=f"The background {which}was kept: {cut.kept_because}. {cutout.ADVICE}"
        )

    async def postprocess(
        self, job: Job, index: int, seed: int, png: bytes, background: Warn | None = None
    ) -> StoredImage:
        """Check the picture drawn with `seed`, add its metadata and write it. Raises BrokenPng, StorageError.

        background: of `cut_out`.
        """
        transparent = background is not None and background.code == BACKGROUND_REMOVED
        sources = await self._sources(job) if self._labels.signs else []
        finished, unsigned = await self._labels.drawn(job, seed, png, sources, transparent=transparent)
        about = (background if transparent else None, unsigned)
        return await self._images.write(
            finished.data,
            width=finished.width,
            height=finished.height,
            sha256=finished.sha256,
            seed=seed,
            index=index,
            warnings=tuple(one for one in about if one is not None),
        )

    async def _sources(self, job: Job) -> list[bytes] | None:
        """The references, for the manifest. None if one was damaged meanwhile: the picture is then not signed."""
        try:
            return [await self._images.read(image_id) for image_id in job.references]
        except Refused:
            return None

    async def preprocess_upscale(self, job: Job) -> bytes:
        """The stored PNG to enlarge. Raises Refused if it is gone or damaged."""
        return await self._images.read(job.references[0])

    async def postprocess_upscale(self, job: Job, png: bytes) -> StoredImage:
        """Add the source's metadata to its larger copy, and write it. Raises Refused, BrokenPng, StorageError."""
        source = await self.preprocess_upscale(job)
        of = await self._images.get(job.references[0])
        finished, unsigned = await self._labels.enlarged(job, png, source, drawn=of.job_id is not None)
        transparent = [one for one in of.warnings if one.code == BACKGROUND_REMOVED]  # the copy is transparent too
        return await self._images.write(
            finished.data,
            width=finished.width,
            height=finished.height,
            sha256=finished.sha256,
            seed=None,
            index=0,
            warnings=(*transparent, *([unsigned] if unsigned else [])),
        )

    async def discard(self, images: Sequence[StoredImage]) -> None:
        await self._images.discard(images)


def seed_of(job: Job, index: int, attempt: int = 0) -> int:
    """The seed of picture `index`: the job's seed + `index`. Each further attempt uses seeds of no other picture."""
    return (job.params.seed + index + attempt * job.params.n) % (SEED_MAX + 1)

"""What a drawn picture's file says of itself: its text, its marks and its signed manifest."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import logging
from collections.abc import Mapping, Sequence

from imagegen import __version__
from imagegen.engines.base import EngineError
from imagegen.images import infotext, upscale
from imagegen.images.png import FinishedPng, finish_png
from imagegen.images.provenance.manifest import Facts, Made
from imagegen.images.provenance.signer import NotSigned, Signer
from imagegen.schemas import NOT_SIGNED, Job, Warn
from imagegen.settings import Settings

log = logging.getLogger("imagegen.worker")
SOFTWARE = f"imagegen {__version__}"


class Labels:
    """Labels pictures as IMAGEGEN_PNG_METADATA and IMAGEGEN_PROVENANCE say.

    The first decides which settings of the drawing are in a file, the second whether the file is marked as AI-generated
    and signed.
    """

    def __init__(self, settings: Settings, signer: Signer | None) -> None:
        self._settings, self._signer = settings, signer
        self._metadata, self._marked = settings.png_metadata, settings.provenance != "off"

    @property
    def signs(self) -> bool:
        return self._signer is not None

    async def drawn(
        self, job: Job, seed: int, png: bytes, sources: Sequence[bytes] | None, *, transparent: bool
    ) -> tuple[FinishedPng, Warn | None]:
        """The file to store of what the engine drew from `sources` (PNG), and a warning if it could not be signed.

        sources: None if one of them cannot be read any more. Raises BrokenPng, and EngineError `not_signed` where a
        signature is required.
        """
        text = self._text(job, seed, transparent) if self._metadata != "off" else {}
        finished = await asyncio.to_thread(finish_png, png, text if text or self._marked else None, marked=self._marked)
        details: dict[str, str | int] = {}
        if self._metadata != "off":
            details = {"model": job.model, "seed": seed}
        if self._metadata == "full":
            details["prompt"] = job.prompt
        return await self._signed(finished, "edited" if job.references else "drawn", details, sources)

    async def enlarged(self, job: Job, png: bytes, source: bytes, *, drawn: bool) -> tuple[FinishedPng, Warn | None]:
        """The file to store of a larger copy of `source`. drawn: a model drew the source. Raises as `drawn`."""
        generated = drawn and not upscale.is_enhanced(source)

        def finish() -> FinishedPng:
            if self._metadata == "off":
                return finish_png(png, {} if self._marked else None, drawn=generated)
            return upscale.finish(
                png, source, job.model, job.params.factor or 1, SOFTWARE,
                prompts=self._metadata == "full", drawn=generated, marked=self._marked,
            )  # fmt: skip

        finished = await asyncio.to_thread(finish)
        made: Made = "edited" if generated else "enhanced"
        details = {} if self._metadata == "off" else {"model": job.model}
        return await self._signed(finished, made, details, (source,))

    async def _signed(
        self, finished: FinishedPng, made: Made, details: Mapping[str, str | int], sources: Sequence[bytes] | None
    ) -> tuple[FinishedPng, Warn | None]:
        if self._signer is None:
            return finished, None
        try:
            if sources is None:
                raise NotSigned("A picture that it was made from cannot be read any more.")
            facts = Facts(made, details, sources)
            data = await asyncio.to_thread(self._signer.sign, finished.data, "image/png", facts)
        except NotSigned as trouble:
            if self._settings.provenance_required:
                detail = f"{trouble} IMAGEGEN_PROVENANCE_REQUIRED=1 keeps no picture without a signature."
                raise EngineError(NOT_SIGNED, detail, draws_on=True) from None
            log.warning("a picture is not signed: %s", trouble)
            return finished, Warn(code="not_signed", detail=f"{trouble} It is marked as AI-generated in XMP alone.")
        return dataclasses.replace(finished, data=data, sha256=hashlib.sha256(data).hexdigest()), None

    def _text(self, job: Job, seed: int, transparent: bool) -> dict[str, str]:
        """Keywords and texts of the PNG."""
        p = job.params
        text = {
            "Software": SOFTWARE,
            "model": job.model,
            "seed": str(seed),
            "steps": str(p.steps),
            "cfg_scale": f"{p.cfg_scale:g}",
            "sampler": p.sampler,
        }
        if p.speed != "quality":
            text["speed"] = p.speed
        if p.strength is not None:
            text["strength"] = f"{p.strength:g}"
        if p.loras:
            text["loras"] = ", ".join(f"{one.name}:{one.strength:g}" for one in p.loras)
        if transparent:
            text["background"] = p.background
        full = self._metadata == "full"
        if full:
            text["prompt"] = job.prompt
        drawn = infotext.drawn(
            model=job.model,
            seed=seed,
            steps=p.steps,
            cfg_scale=p.cfg_scale,
            sampler=p.sampler,
            size=(p.width, p.height),
            version=SOFTWARE,
        )
        prompt = infotext.with_loras(job.prompt if full else "", p.loras)
        return text | {infotext.KEYWORD: infotext.write(prompt, p.negative if full else "", drawn)}

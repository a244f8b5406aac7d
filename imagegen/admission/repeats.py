"""Requests made of earlier jobs and pictures: the same again, and variations. Pure."""

from __future__ import annotations

from typing import Any

from imagegen.requests import EditRequest, GenerateRequest, LoraWish, Picture, VariationRequest
from imagegen.schemas import Job, Kind, Refused

VARIATION_PROMPT = "Draw this picture anew, as another version of it: the same subject in the same style."
"""The instruction for a variation of an uploaded picture, whose prompt is not known."""


def same_again(job: Job) -> GenerateRequest:
    """The request of `job`, with the parameters that were resolved for it. Keeps the seed only if the caller set it."""
    p = job.params
    fields: dict[str, Any] = {
        "prompt": job.prompt,
        "negative": p.negative or None,
        "width": p.width,
        "height": p.height,
        "steps": p.steps,
        "cfg_scale": p.cfg_scale,
        "sampler": p.sampler,
        "seed": p.seed if p.seed_given else None,
        "n": p.n,
        "model": job.model,
        "loras": [LoraWish(name=one.name, strength=one.strength) for one in p.loras] or None,
        "speed": p.speed if p.speed == "fast" else None,
        "background": p.background if p.background == "transparent" else None,
    }
    if job.kind is Kind.GENERATE:
        return GenerateRequest(**fields)
    more: dict[str, Any] = {
        "images": [*job.references],
        "mask": job.mask,
        "fit": p.fit or "contain",
        "strength": p.strength,
    }
    return EditRequest(**fields | more)


def variation_of_job(job: Job, wish: VariationRequest) -> GenerateRequest:
    """The request of `job` with other seeds. Raises Refused 422 for a wish that only an uploaded picture can have, and
    for a job that drew nothing."""
    if job.kind is Kind.UPSCALE:
        detail = "This job enlarged a picture: there are no other seeds of it. Name that picture, as image."
        raise Refused(422, "invalid_request", detail, param="job_id")
    for name in ("prompt", "model"):
        if getattr(wish, name) is not None:
            detail = (
                f"{name} is for variations of an uploaded picture. To change it here, draw with POST /api/generate."
            )
            raise Refused(422, "invalid_request", detail, param=name)
    return same_again(job).model_copy(update=_own(wish))


def variation_of_picture(picture: Picture, wish: VariationRequest) -> EditRequest:
    """An edit that draws `picture` anew."""
    edit = EditRequest(prompt=wish.prompt or VARIATION_PROMPT, images=[picture], model=wish.model)
    return edit.model_copy(update=_own(wish))


def _own(wish: VariationRequest) -> dict[str, Any]:
    return {name: getattr(wish, name) for name in ("n", "seed", "lease_s", "preview", "webhook")}

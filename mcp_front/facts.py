"""A job as structured content for hosts with a view."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from imagegen_client.progress import describe
from mcp_front.answers import Job, Said

NOT_WHAT_WAS_ASKED = {"blank_picture", "unknown_subject", "unknown_style", "text_unreadable"}
"""Codes of the warnings which mean that the picture does not show what was asked for."""


class ImageFacts(BaseModel):
    """One finished picture. Sizes in pixels and bytes."""

    image_id: str
    width: int
    height: int
    bytes: int
    seed: int | None
    url: str
    resource_uri: str
    saved_path: str | None
    download_command: str | None


class Facts(BaseModel):
    """Where a job is, its pictures once it is complete, and what to do next; status `not_drawn`: there is no job."""

    job_id: str | None
    status: str
    says: str
    model: str
    prompt: str
    position: int | None = None
    step: int | None = None
    steps: int | None = None
    eta_s: float | None = None
    images: list[ImageFacts] = []
    warnings: list[str] = []
    expires_at: str | None = None
    next_step: str


def wrong_pictures(job: Job) -> list[Said]:
    """The warnings which mean that a job's finished pictures do not show what was asked for."""
    return [one for one in job.warnings if one.code in NOT_WHAT_WAS_ASKED] if job.images else []


def facts(job: Job, next_step: str, images: list[ImageFacts]) -> dict[str, Any]:
    """The structured content of a job."""
    now = job.progress
    return Facts(
        job_id=job.job_id,
        status=job.status,
        says=next((one.first_line for one in wrong_pictures(job) if job.status == "complete"), describe(job)),
        model=job.model,
        prompt=job.prompt[:1000],
        position=job.position,
        step=now.step if now else None,
        steps=now.steps if now else None,
        eta_s=job.eta_s,
        images=images,
        warnings=[warning.detail for warning in job.warnings],
        expires_at=job.expires_at,
        next_step=next_step,
    ).model_dump(mode="json")

"""Responses about jobs and their pictures."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PlainSerializer

from imagegen.http.responses.base import Answer, Id, Sha256, When
from imagegen.schemas import Factor, Failure, Kind, Method, Params, Phase, Policy, Progress, Status, Warn


def _absent(value: object) -> bool:
    return value is None


class Image(Answer):
    """A stored picture. `warnings`: what decoding an upload changed, or `background_removed` of a drawn picture."""

    id: Id
    url: str
    width: int
    height: int
    bytes: int
    sha256: Sha256
    seed: int | None
    format: Literal["png"]
    job_id: Id | None
    created_at: When
    expires_at: When | None
    warnings: list[Warn]


class Images(Answer):
    """A page of the gallery; `next` is the `before` of the following one."""

    items: list[Image]
    next: int | None


class JobProgress(Answer):
    """Progress of a running job. `fraction` and `left_s` are of the phase; `image` is the number of the picture."""

    phase: Phase
    step: int | None
    steps: int | None
    fraction: float | None
    bytes_done: int | None
    bytes_total: int | None
    left_s: float | None
    image: int
    detail: str | None

    @classmethod
    def of(cls, progress: Progress) -> JobProgress:
        return cls.model_validate(progress, from_attributes=True)


class JobPreview(Answer):
    """The newest preview of a running job: its URL, the number of the picture, and the step that it follows."""

    url: str
    image: int
    step: int
    steps: int


def _given(params: Params) -> dict[str, Any]:
    """Omit null parameters: `fit` of a job that is no edit, the scheduler of a model that has no choice of it."""
    return params.model_dump(exclude_none=True)


Given = Annotated[Params, PlainSerializer(_given)]


class UpscaleParams(Answer):
    """The parameters of an upscale: the size of its result, and how it is made."""

    width: int
    height: int
    n: Literal[1]
    factor: Factor
    method: Method

    @classmethod
    def of(cls, params: Params) -> UpscaleParams:
        return cls.model_validate(params, from_attributes=True)


class JobWebhook(Answer):
    """The delivery of the job to its webhook; `error` is of the last attempt."""

    url: str
    delivered_at: When | None
    attempts: int
    error: str | None


class Job(Answer):
    """One request for pictures, from submission to result."""

    job_id: Id
    kind: Kind
    status: Status
    position: int | None
    progress: JobProgress | None
    preview: JobPreview | None
    eta_s: float | None
    model: str
    params: Given | UpscaleParams
    prompt: str
    url: Annotated[str | None, Field(exclude_if=_absent)] = None
    images: list[Image]
    references: list[Id]
    mask: Id | None
    draft: bool
    webhook: JobWebhook | None
    warnings: list[Warn]
    error: Annotated[Failure | None, Field(exclude_if=_absent)] = None
    policy: Policy
    created_at: When
    started_at: When | None
    finished_at: When | None
    expires_at: When | None
    attempts: int
    revision: int


class Check(Answer):
    """What a request would become, without a job.

    draws_it: false if the picture will not show what was asked for; the warnings say why. fits: the model fits into
    this machine's memory. drawing_s: seconds on a loaded engine. eta_s: seconds to the result if it were submitted now.
    Both are null until they are measured.
    """

    kind: Kind
    model: str
    params: Given
    draws_it: bool
    fits: bool
    drawing_s: float | None
    eta_s: float | None
    warnings: list[Warn]


class Jobs(Answer):
    """A page of jobs, the newest first; `next` is the `before` of the following one."""

    items: list[Job]
    next: int | None

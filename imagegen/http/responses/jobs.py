"""Responses about jobs and their pictures."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PlainSerializer

from imagegen.http.responses.base import Answer, Id, Sha256, When
from imagegen.schemas import Factor, Failure, Kind, Method, Params, Phase, Policy, Progress, Status, Warn


def _absent(value: object) -> bool:
    return value is None


class Image(Answer):
    """A stored picture. A kept one does not expire; `board` and `note` are of a kept one.

    `warnings`: what decoding an upload changed, or `background_removed` of a drawn picture.
    """

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
    kept_at: When | None
    board: str | None
    note: str | None
    warnings: list[Warn]


class ListedImage(Image):
    """A picture in the list, with what its job was; null: an upload."""

    kind: Kind | None
    model: str | None
    prompt: str | None


class Images(Answer):
    """A page of the list; `next` is the `cursor` of the following one."""

    items: list[ListedImage]
    next: int | None


class Deleted(Answer):
    """The ids of the pictures of a job that were deleted, and of those that were not because they are kept."""

    deleted: list[Id]
    kept: list[Id]


class Board(Answer):
    """A board of kept pictures: its name, their number, and the URL of the newest."""

    name: str
    count: int
    url: str


class Boards(Answer):
    """The boards by name; `kept` pictures of at most `max` are kept, on a board or not."""

    items: list[Board]
    kept: int
    max: int


class LoraRead(Answer):
    """A LoRA as a picture's file names it."""

    name: str
    strength: float


class SettingsRead(Answer):
    """The settings in a picture's file, in the words of the program that wrote them. Null: the file does not say.

    others: further settings, by that program's labels.
    """

    prompt: str | None = None
    negative: str | None = None
    model: str | None = None
    seed: int | None = None
    steps: int | None = None
    cfg_scale: float | None = None
    sampler: str | None = None
    width: int | None = None
    height: int | None = None
    loras: list[LoraRead] = Field(default_factory=list)
    speed: str | None = None
    background: str | None = None
    others: dict[str, str] = Field(default_factory=dict)


class Inspection(Answer):
    """How a PNG was made.

    program: whose format the settings have; null if the file has none. width, height: of the file, in pixels.
    request: the fields of POST /api/generate that this service takes; null without settings. A setting that it does
    not take has a warning.
    """

    program: Literal["imagegen", "automatic1111", "comfyui", "invokeai"] | None
    width: int
    height: int
    settings: SettingsRead
    request: dict[str, Any] | None
    warnings: list[Warn]


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

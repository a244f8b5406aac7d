"""The words every transport shares: jobs, progress, pictures and refusals.

Nothing here does I/O. Times are POSIX seconds in memory and in the database, RFC 3339 in JSON
(see `imagegen.http.serialize`).
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

SEED_MAX = 2**32 - 1


class Kind(StrEnum):
    """What a job is for."""

    GENERATE = "generate"  # a picture from words
    EDIT = "edit"  # a picture from words and reference pictures
    UPSCALE = "upscale"  # a larger copy of a picture


class Status(StrEnum):
    """Where a job is in its life."""

    QUEUED = "queued"  # accepted, waiting for its turn
    RUNNING = "running"  # the worker has it
    COMPLETE = "complete"  # its pictures can be fetched
    FAILED = "failed"  # it ended with a reason
    CANCELLED = "cancelled"  # by a client, or a draft that gave way to another job

    @property
    def ended(self) -> bool:
        return self in {Status.COMPLETE, Status.FAILED, Status.CANCELLED}


class Phase(StrEnum):
    """What a running job is doing now."""

    FETCHING = "fetching"  # the model's files are being downloaded
    WAITING_GPU = "waiting_gpu"  # another process holds the GPU's memory
    LOADING = "loading"  # the engine reads the model
    ENCODING = "encoding"  # text and references become conditions
    SAMPLING = "sampling"  # denoising steps
    DECODING = "decoding"  # latents become pixels
    UPSCALING = "upscaling"  # a picture is enlarged, tile by tile
    SAVING = "saving"  # pixels become a file


class EngineState(StrEnum):
    """The model's life, as the worker lives it."""

    COLD = "cold"  # no engine process
    LOADING = "loading"  # started, not yet ready
    READY = "ready"  # waiting for a job
    DRAWING = "drawing"  # a job runs
    DRAINING = "draining"  # a cancelled job's last picture runs out
    UNLOADING = "unloading"  # being ended
    FAILED = "failed"  # the last start failed; the next job tries again


class Progress(BaseModel):
    """How far a running job is; `fraction` (0..1) and `left_s` (seconds, if known) are of the phase, not of the job;
    bytes are of the model's files."""

    model_config = ConfigDict(frozen=True)

    phase: Phase
    step: int | None = None
    steps: int | None = None
    fraction: float | None = None
    bytes_done: int | None = None
    bytes_total: int | None = None
    left_s: float | None = None
    image: int = 1  # which of the job's `n` pictures, from 1
    detail: str | None = None
    at: float = 0.0  # when it was noted, for the ETA; not shown
    step_s: float | None = None  # seconds per step of this picture so far, for the ETA; not shown


class Warn(BaseModel):
    """Something the caller should know that did not stop the job."""

    model_config = ConfigDict(frozen=True)

    code: str
    detail: str


class Failure(BaseModel):
    """Why a job failed, in a sentence a person can act on."""

    model_config = ConfigDict(frozen=True)

    code: str
    detail: str


class Policy(BaseModel):
    """How the operator's exclusions were applied to a job (D-03)."""

    model_config = ConfigDict(frozen=True)

    negative: Literal["applied", "inert"]
    directive: Literal["applied"] = "applied"


Factor = Literal[2, 4]
UPSCALER_SCALE = 4
Method = Literal["esrgan", "lanczos"]
"""How a picture is enlarged: by a network, which adds detail, or by interpolation, which adds none."""

Speed = Literal["quality", "fast"]
"""How a picture is drawn: every step computed, or some left out by the model's cache (`imagegen.models.fast`)."""


class Lora(BaseModel):
    """A LoRA of a picture: the name of a file in the LoRA folder, and how strongly it is applied."""

    model_config = ConfigDict(frozen=True)

    name: str
    strength: float = 1.0


Background = Literal["opaque", "transparent"]
"""What is around the subject: as drawn, or cut out (`imagegen.images.cutout`)."""


class Params(BaseModel):
    """The parameters of the engine, all resolved.

    width, height in pixels; seed of the first picture (picture i uses seed + i, modulo 2^32).
    """

    model_config = ConfigDict(frozen=True)

    width: int
    height: int
    steps: int
    cfg_scale: float
    sampler: str
    scheduler: str | None = None
    seed: int
    seed_given: bool = True  # by the caller: then a picture of one colour is not drawn again with another
    n: int = 1
    negative: str = ""  # the caller's own, without the policy's
    fit: Literal["contain", "cover", "stretch"] | None = None  # edits only
    speed: Speed = "quality"
    loras: tuple[Lora, ...] = ()  # the request's, without the model's own
    background: Background = "opaque"
    strength: float | None = None  # edits only: how much the first picture may change; None: the model decides
    factor: Factor | None = None  # of an upscale: how many times as wide and high as its source
    method: Method | None = None  # of an upscale

    @classmethod
    def of_upscale(cls, width: int, height: int, factor: Factor, method: Method) -> Params:
        """The parameters of an upscale to width x height. It is one step, and nothing of it is random."""
        return cls(width=width, height=height, steps=1, cfg_scale=0.0, sampler="", seed=0, factor=factor, method=method)

    @property
    def upscales(self) -> bool:
        return self.factor is not None

    @property
    def pixels(self) -> int:
        """The pixels that the engine computes. Its upscalers know only x4, whatever the factor."""
        scale = 1 if self.factor is None else UPSCALER_SCALE // self.factor
        return self.width * self.height * scale**2

    @property
    def steps_run(self) -> int:
        """The steps that the engine computes: a strength below 1 leaves out its share of them."""
        return self.steps if self.strength is None else max(1, math.ceil(self.steps * self.strength))


PREVIEW_EVERY_MAX = 1000


def _preview_wish(value: Any) -> Any:
    """One error for the whole field; pydantic would report one for each member of the union."""
    whole = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= PREVIEW_EVERY_MAX
    if not whole and value not in ("off", "auto"):
        raise PydanticCustomError("preview_wish", "neither off, auto nor a whole number")
    return value


PreviewWish = Annotated[
    Literal["off", "auto"] | Annotated[int, Field(ge=1, le=PREVIEW_EVERY_MAX)], BeforeValidator(_preview_wish)
]
"""Previews of a running job: `off`, `auto` (as many as cost no time), or one after every so many steps."""


BACKGROUND_REMOVED = "background_removed"
NOT_SIGNED = "not_signed"


class StoredImage(BaseModel):
    """A picture in the store. `job_id` is None for an upload. Sizes in pixels and bytes."""

    model_config = ConfigDict(frozen=True)

    id: str
    job_id: str | None
    index: int
    width: int
    height: int
    bytes: int
    sha256: str
    seed: int | None
    format: Literal["png"] = "png"
    created_at: float
    expires_at: float | None  # None: kept, or not yet visible
    warnings: tuple[Warn, ...] = ()  # of an upload: what decoding it changed; a job that names it repeats them
    kept_at: float | None = None  # None: not kept
    board: str | None = None  # of a kept picture
    note: str | None = None  # of a kept picture

    @property
    def transparent(self) -> bool:
        """Whether its background was cut out after drawing."""
        return any(warning.code == BACKGROUND_REMOVED for warning in self.warnings)


class ListedImage(StoredImage):
    """A picture in a list, with its number there and what its job was; None: an upload."""

    seq: int
    kind: Kind | None
    model: str | None
    prompt: str | None


class EngineTexts(BaseModel):
    """The texts that the engine gets: the caller's, with those of the policy that was in force at the submit."""

    model_config = ConfigDict(frozen=True)

    prompt: str
    negative: str


class WebhookState(BaseModel):
    """The delivery of a job's webhook. `error` is of the last attempt."""

    model_config = ConfigDict(frozen=True)

    url: str
    delivered_at: float | None = None
    attempts: int = 0
    error: str | None = None


class Job(BaseModel):
    """One request for pictures, from submission to result: the row, read."""

    model_config = ConfigDict(frozen=True)

    id: str
    seq: int  # order of arrival; never reused
    revision: int  # grows with every change of this row
    kind: Kind
    status: Status
    model: str
    prompt: str
    params: Params
    references: list[str] = []
    mask: str | None = None
    warnings: list[Warn] = []
    policy: Policy
    engine_texts: EngineTexts | None = None  # None: accepted by a version that did not store them
    progress: Progress | None = None
    error: Failure | None = None
    attempts: int = 0
    images: list[StoredImage] = []
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None
    expires_at: float | None = None
    lease_s: float | None = None
    preview: PreviewWish = "off"
    webhook: WebhookState | None = None
    draft: bool = False  # drawn while nothing else waits, in no list, deleted soon


class Refused(Exception):
    """A request that will not become a job (or a read that cannot be answered).

    code: stable, one of docs/http.md's; status: HTTP status; detail: a sentence that says what to do.
    """

    def __init__(self, status: int, code: str, detail: str, **extra: Any) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail, self.extra = status, code, detail, extra


def timestamp(at: float) -> str:
    """RFC 3339 in UTC with milliseconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def expired(what: str, at: float) -> Refused:
    """410 for a thing that was kept as long as promised."""
    when = timestamp(at)
    return Refused(410, "expired", f"This {what} expired at {when} and was deleted.", expired_at=when)

"""Response models. `serialize` fills them; the OpenAPI document and docs/schemas/ are generated from them.

Times are RFC 3339 in UTC, durations seconds, sizes bytes and pixels, as the names say.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from imagegen.hardware.memory_mode import MemoryMode
from imagegen.models.entry_tables import Capabilities, Defaults, Licence, Memory
from imagegen.models.speed import Fast
from imagegen.prompts.templates import Template
from imagegen.schemas import (
    Background,
    EngineState,
    Factor,
    Failure,
    Kind,
    Method,
    Params,
    Phase,
    Policy,
    Progress,
    Status,
    Warn,
)

When = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Id = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Answer(BaseModel):
    """Extra fields are forbidden."""

    model_config = ConfigDict(extra="forbid")


def _absent(value: object) -> bool:
    return value is None


class Problem(BaseModel):
    """Any refusal (RFC 9457): `code` is for programs, `detail` a sentence that says what to do."""

    type: str
    status: int
    code: str
    title: str
    detail: str


class OpenAIErrorBody(BaseModel):
    """The content of OpenAI's error."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIError(_Answer):
    """A refusal under /v1, as OpenAI's clients read it."""

    error: OpenAIErrorBody


class Image(_Answer):
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


class Images(_Answer):
    """A page of the gallery; `next` is the `before` of the following one."""

    items: list[Image]
    next: int | None


class JobProgress(_Answer):
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


class JobPreview(_Answer):
    """The newest preview of a running job: its URL, the number of the picture, and the step that it follows."""

    url: str
    image: int
    step: int
    steps: int


def _given(params: Params) -> dict[str, Any]:
    """Omit null parameters: `fit` of a job that is no edit, the scheduler of a model that has no choice of it."""
    return params.model_dump(exclude_none=True)


Given = Annotated[Params, PlainSerializer(_given)]


class UpscaleParams(_Answer):
    """The parameters of an upscale: the size of its result, and how it is made."""

    width: int
    height: int
    n: Literal[1]
    factor: Factor
    method: Method

    @classmethod
    def of(cls, params: Params) -> UpscaleParams:
        return cls.model_validate(params, from_attributes=True)


class JobWebhook(_Answer):
    """The delivery of the job to its webhook; `error` is of the last attempt."""

    url: str
    delivered_at: When | None
    attempts: int
    error: str | None


class Job(_Answer):
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


class Check(_Answer):
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


class Jobs(_Answer):
    """A page of jobs, the newest first; `next` is the `before` of the following one."""

    items: list[Job]
    next: int | None


class Load(_Answer):
    """Progress of loading a model. `waits_for`: the holder of the GPU's memory, while the load waits for it."""

    fraction: float
    eta_s: float | None
    bytes_done: int | None
    bytes_total: int | None
    waits_for: str | None


class Fetch(_Answer):
    """A download by the service: its model, its progress, and a note (an error, the speed)."""

    model: str
    file: str | None
    bytes_done: int
    bytes_total: int | None
    left_s: float | None
    detail: str


class MemoryUse(_Answer):
    """How the loaded model is kept in memory. need_bytes: what that is expected to take of the card."""

    mode: MemoryMode
    need_bytes: int
    reason: str


class Engine(_Answer):
    """The state of the engine, and the download in progress.

    backend: what the engine of the loaded model, or of the default one, is built for; null if it is not installed.
    memory: how the loaded model is kept in memory; null without a GPU.
    """

    state: EngineState
    since: When
    model: str | None
    backend: Literal["cpu", "cuda", "vulkan"] | None
    pid: int | None
    load: Load | None
    fetch: Fetch | None
    memory: MemoryUse | None
    error: Failure | None


class Idle(_Answer):
    """When an idle engine is unloaded, and the reason."""

    mode: str
    unload_at: When | None
    reason: str | None
    cold_start_s: float | None
    beta_s: float | None


class Queue(_Answer):
    """The numbers of queued and running jobs."""

    queued: int
    running: int
    max: int
    eta_s: float | None


class Gpu(_Answer):
    """The GPU, as NVML or the Vulkan driver (`backend`) reports it. Null: not reported."""

    name: str
    backend: Literal["cuda", "vulkan"]
    total_bytes: int
    free_bytes: int | None
    ours_bytes: int | None


class DefaultModel(_Answer):
    """The model of a request that names none. `noise`: its pictures are noise. `limits`: what it cannot draw."""

    default: str
    noise: bool
    limits: str | None


class ServiceStatus(_Answer):
    """The state of the service. Reading it does not load a model."""

    engine: Engine
    idle: Idle
    queue: Queue
    gpu: Gpu | None
    model: DefaultModel
    warnings: list[Warn]
    version: str


class MemoryNeed(_Answer):
    """What a picture took of the GPU's memory here, or of the RAM in the mode `cpu`, by measurement.

    pixels: of the picture and its references. failed: the memory ran out, and `bytes` were available.
    """

    kind: Kind
    mode: Literal["card", "offload", "stream", "cpu"]
    pixels: int
    bytes: int
    failed: bool


class Model(_Answer):
    """A model of the catalog, every number with its source.

    misfits: known problems with it on this machine. picture_s: seconds of one picture with the default parameters,
    measured on this machine; null before the first. memory_needs: what its pictures took, as measured on this machine.
    fetching: whether its files are being downloaded. fetch_error: why the last download that a request began failed.
    previews: whether its running jobs can have previews. knows: all subjects that a small model can draw; null if there
    is no list.
    """

    name: str
    title: str
    description: str
    adapter: str
    noise: bool
    limits: str | None
    licence: Licence
    capabilities: Capabilities
    defaults: Defaults
    size_multiple: int
    size_min_px: int
    memory: Memory | None
    fast: Fast | None
    default: bool
    installed: bool
    missing: list[str]
    fetching: bool
    fetch_error: str | None
    negative_inert: bool
    misfits: list[Warn]
    picture_s: float | None
    memory_needs: list[MemoryNeed]
    previews: bool
    knows: list[str] | None


class Upscaler(_Answer):
    """A network that enlarges pictures. `missing`: its file, if that is not here. fetching, fetch_error: as a model."""

    name: str
    title: str
    description: str
    licence: Licence
    installed: bool
    missing: list[str]
    fetching: bool
    fetch_error: str | None


class Models(_Answer):
    """The catalog, and the limits of a request."""

    items: list[Model]
    upscalers: list[Upscaler]
    caps: dict[str, int | float]


class ListedLora(_Answer):
    """A LoRA that a request may name.

    base_model, trigger_words: from the file's metadata. family: recognised from its tensors. models: the installed
    models that it can be used with. fault: why it can be used with none; else null.
    """

    name: str
    bytes: int
    base_model: str | None
    family: str | None
    trigger_words: list[str]
    models: list[str]
    fault: str | None


class Loras(_Answer):
    """The LoRAs that a request may name."""

    items: list[ListedLora]


class FetchFile(_Answer):
    """A file to download. optional: the model works without it."""

    repo: str
    path: str
    bytes: int
    optional: bool


class FetchPlan(_Answer):
    """What a download brings. licences: by repository, as its page states. licence_question: null if there is none.

    remarks: what else a user should know, such as an optional file that the hub does not give.
    """

    model: str
    files: list[FetchFile]
    bytes_total: int
    licence: Licence
    licences: dict[str, str]
    licence_question: str | None
    remarks: list[str]


class ModelFile(_Answer):
    """A file of a model, in the models folder. kept: why a removal keeps it; null: it is deleted."""

    file: str
    bytes: int
    kept: str | None


class ModelFiles(_Answer):
    """The files of a model, and the bytes that removing them frees or has freed."""

    model: str
    files: list[ModelFile]
    freed_bytes: int


class Templates(_Answer):
    """Prompt presets, and the problems of the operator's own."""

    items: list[Template]
    problems: list[str]


class Session(_Answer):
    """The name of the token and the end of the session; null on a service without tokens."""

    name: str | None
    expires_at: When | None


class OpenAIImage(_Answer):
    """One picture as OpenAI's clients read it, with its id and seed here."""

    id: Id
    seed: int | None
    b64_json: str | None = None
    url: str | None = None


class OpenAITokens(_Answer):
    """Tokens of a request; nothing is metered here."""

    text_tokens: Literal[0]
    image_tokens: Literal[0]


class OpenAIUsage(_Answer):
    """The usage that OpenAI's clients read; all zero."""

    input_tokens: Literal[0]
    input_tokens_details: OpenAITokens
    output_tokens: Literal[0]
    total_tokens: Literal[0]


class OpenAIImages(_Answer):
    """OpenAI's answer, with the job's id and warnings; `quality`: low where the picture was drawn fast."""

    created: int
    data: list[OpenAIImage]
    background: Background
    output_format: Literal["png", "jpeg", "webp"]
    quality: Literal["low", "high"]
    size: str
    usage: OpenAIUsage
    model: str
    job_id: Id
    warnings: list[Warn] = []


class OpenAIModel(_Answer):
    """A model as OpenAI's clients read it; `alias_of`: the model that the name stands for."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    alias_of: str | None = None


class OpenAIModels(_Answer):
    """The models that can draw now."""

    object: Literal["list"]
    data: list[OpenAIModel]

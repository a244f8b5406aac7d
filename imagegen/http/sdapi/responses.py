"""Response models of AUTOMATIC1111's API, for the OpenAPI document and the tests."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel

from imagegen.schemas import Warn


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SdapiError(_Answer):
    """A refusal: `error` is the code; `detail` and `errors` are the sentence that says what to do."""

    error: str
    detail: str
    body: Literal[""]
    errors: str


class SdapiImages(_Answer):
    """Pictures in base64; `info` is JSON in a string."""

    images: list[str]
    parameters: dict[str, Any]
    info: str


class SdapiState(_Answer):
    """The caller's own job that runs or is next."""

    skipped: Literal[False]
    interrupted: Literal[False]
    stopping_generation: Literal[False]
    job: str
    job_count: int
    job_timestamp: str
    job_no: int
    sampling_step: int
    sampling_steps: int


class SdapiProgress(_Answer):
    """How far that job is: `progress` from 0 to 1, `eta_relative` in seconds."""

    progress: Annotated[float, Field(ge=0, le=1)]
    eta_relative: float
    state: SdapiState
    current_image: str | None
    textinfo: str | None
    current_task: str | None


class SdapiNothing(_Answer):
    """An empty object."""


class SdapiOptions(_Answer):
    """The options that clients read."""

    sd_model_checkpoint: str
    sd_checkpoint_hash: Literal[""]
    sd_vae: Literal["Automatic"]
    CLIP_stop_at_last_layers: Literal[1]
    samples_format: Literal["png"]
    enable_pnginfo: bool


class SdapiWarnings(_Answer):
    """What of the options was ignored."""

    warnings: list[Warn]


class SdapiModel(_Answer):
    """A model that can draw now."""

    title: str
    model_name: str
    hash: None
    sha256: None
    filename: str
    config: None


class SdapiModels(RootModel[list[SdapiModel]]):
    """The models that can draw now."""


class SdapiSampler(_Answer):
    """A sampler; its alias is the name in the rest of this service."""

    name: str
    aliases: list[str]
    options: SdapiNothing


class SdapiSamplers(RootModel[list[SdapiSampler]]):
    """The samplers that the chosen model can be drawn with."""


class SdapiScheduler(_Answer):
    """A scheduler."""

    name: str
    label: str
    aliases: None
    default_rho: float
    need_inner_model: bool


class SdapiSchedulers(RootModel[list[SdapiScheduler]]):
    """One: each model brings its own."""


class SdapiLora(_Answer):
    """A LoRA; its path is the name of its file only."""

    name: str
    alias: str
    path: str
    metadata: dict[str, str]


class SdapiLoras(RootModel[list[SdapiLora]]):
    """The LoRAs that a prompt may name as `<lora:NAME:STRENGTH>`."""


class SdapiUpscaler(_Answer):
    """A way to enlarge a picture."""

    name: str
    model_name: None
    model_path: None
    model_url: None
    scale: int


class SdapiUpscalers(RootModel[list[SdapiUpscaler]]):
    """What extra-single-image can use now."""


class SdapiUpscaled(_Answer):
    """The larger picture in base64; `html_info` has the job's warnings."""

    html_info: str
    image: str


class SdapiEmptyList(RootModel[Annotated[list[None], Field(max_length=0)]]):
    """A list of what does not exist here."""


class SdapiPictureInfo(_Answer):
    """The settings that a PNG carries: as text, and by label; `items` are its other texts."""

    info: str
    items: dict[str, str]
    parameters: dict[str, str]


class SdapiRam(_Answer):
    """Memory in bytes."""

    free: int
    used: int
    total: int


class SdapiCuda(_Answer):
    """The GPU's memory, or why there is none."""

    system: SdapiRam | None = None
    error: str | None = None


class SdapiMemory(_Answer):
    """Memory of the machine and of the GPU."""

    ram: SdapiRam
    cuda: SdapiCuda


class SdapiFlags(_Answer):
    """What of the web UI's command line is true here."""

    api: Literal[True]
    nowebui: Literal[True]

"""The tables of a catalog entry's file. Error messages show the descriptions of the fields."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

Number = StrictInt | StrictFloat

SAMPLERS = (
    "euler",
    "euler_a",
    "heun",
    "dpm2",
    "dpm++2s_a",
    "dpm++2m",
    "dpm++2mv2",
    "ipndm",
    "ipndm_v",
    "lcm",
    "ddim_trailing",
    "tcd",
    "res_multistep",
    "res_2s",
    "er_sde",
)
"""sd-server's names of its samplers (its usage text, `--sampling-method`)."""

SCHEDULERS = (
    "discrete",
    "karras",
    "exponential",
    "ays",
    "gits",
    "smoothstep",
    "sgm_uniform",
    "simple",
    "kl_optimal",
    "lcm",
    "bong_tangent",
)
"""sd-server's names of its schedulers (its usage text, `--scheduler`)."""


ADAPTER_SAMPLERS = {"sdcpp": SAMPLERS, "glm": ("default",)}
"""By adapter: the samplers that a request may name. GLM-Image's pipeline has one sampler of its own."""


CLOSED = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
"""Unknown keys are refused, because they are typing errors."""


class _Table(BaseModel):
    """A table of an entry's file."""

    model_config = CLOSED


Source = Annotated[StrictStr, Field(min_length=1, description="text: where the values come from")]


class Sourced(_Table):
    """A value, the range that its sources span, and the sources.

    The ranges of width and height are limits. Other values outside their range only cause a warning.
    """

    value: Annotated[Number | StrictStr, Field(description="a number or a text")]
    min: Annotated[Number | None, Field(description="a number not above value")] = None
    max: Annotated[Number | None, Field(description="a number not below value")] = None
    source: Source

    @model_validator(mode="after")
    def _ordered(self) -> Sourced:
        if isinstance(self.value, str):
            if self.min is not None or self.max is not None:
                raise ValueError("a text has no min and no max")
            return self
        low = self.value if self.min is None else self.min
        high = self.value if self.max is None else self.max
        if not low <= self.value <= high:
            raise ValueError(f"min ≤ value ≤ max must hold, not {low} ≤ {self.value} ≤ {high}")
        return self


class ModelFile(_Table):
    """A file that the engine reads. `file` may be a pattern (`*`, `?`): the first match by name is used."""

    role: Annotated[
        Literal[
            "model",
            "diffusion_model",
            "llm",
            "llm_vision",
            "vae",
            "tae",
            "clip_l",
            "clip_g",
            "t5xxl",
            "lora",
            "repository",
            "upscaler",
        ],
        Field(description="what the engine uses it for (repository: `file` tells that a whole one is there)"),
    ]
    flag: Annotated[StrictStr | None, Field(pattern=r"^--?[a-z][a-z0-9_-]*$", description="an engine flag")] = None
    file: Annotated[StrictStr, Field(min_length=1, description="a name in the model's folder, or a pattern")]
    shared: Annotated[
        StrictStr | None,
        Field(pattern=r"^[^\x00-\x1f\x7f]+$", description="another folder to look in: a model's name or a path"),
    ] = None
    repo: Annotated[StrictStr | None, Field(pattern=r"^[^/\s]+/[^/\s]+$", description="OWNER/NAME on the hub")] = None
    path: Annotated[StrictStr | None, Field(min_length=1, description="a path or pattern in the repository")] = None
    sha256: Annotated[StrictStr | None, Field(pattern=r"^[0-9a-f]{64}$", description="64 hexadecimal digits")] = None
    size_bytes: Annotated[StrictInt | None, Field(gt=0, description="a number of bytes")] = None
    multiplier: Annotated[Number, Field(description="a number: the strength of a LoRA")] = 1.0
    optional: Annotated[StrictBool, Field(description="true or false")] = False
    note: Annotated[StrictStr | None, Field(description="a text")] = None

    @field_validator("file")
    @classmethod
    def _inside(cls, value: str) -> str:
        if ".." in PurePosixPath(value).parts or not value.isprintable():
            raise ValueError("must stay inside the model's folder ('..' leaves it) and be printable")
        if value.startswith("/") and any(c in value for c in "*?["):
            raise ValueError("a pattern must be relative: it is looked for in the model's folder")
        return value

    @property
    def is_pattern(self) -> bool:
        return any(c in self.file for c in "*?[")


class Flag(_Table):
    """An argument of the engine's command line."""

    flag: Annotated[StrictStr, Field(pattern=r"^--?[a-z][a-z0-9_-]*$", description="an engine flag")]
    value: Annotated[StrictStr | Number | None, Field(description="a text or a number")] = None
    source: Source


class Capabilities(_Table):
    """The kinds of request that the model accepts."""

    draw: Annotated[StrictBool, Field(description="true or false")]
    edit: Annotated[StrictBool, Field(description="true or false")]
    mask: Annotated[StrictBool, Field(description="true or false")] = False
    strength: Annotated[
        StrictBool, Field(description="true or false: whether an edit can start from its first picture's latents")
    ] = False
    negative: Annotated[StrictBool, Field(description="true or false: whether it reads one at all")] = True
    max_references: Annotated[StrictInt, Field(ge=0, le=16, description="a whole number, 0 to 16")] = 0


class Licence(_Table):
    """The licence of the weights. `commercial`: whether it permits commercial use; None if unknown."""

    name: Annotated[StrictStr, Field(min_length=1, description="a text")]
    url: Annotated[StrictStr | None, Field(description="a web address")] = None
    commercial: Annotated[StrictBool | None, Field(description="true or false")] = None


class Memory(_Table):
    """The engine's memory with this model loaded, in bytes."""

    vram_bytes: Annotated[StrictInt | None, Field(gt=0, description="a number of bytes")] = None
    ram_bytes: Annotated[StrictInt | None, Field(gt=0, description="a number of bytes")] = None
    source: Source


class Defaults(_Table):
    """The values of the parameters that a request omits."""

    steps: Annotated[Sourced, Field(description="a whole number, 1 to 100")]
    cfg_scale: Annotated[Sourced, Field(description="a number, 0 to 100")]
    width: Annotated[Sourced, Field(description="pixels, a multiple of size_multiple")]
    height: Annotated[Sourced, Field(description="pixels, a multiple of size_multiple")]
    sampler: Annotated[Sourced, Field(description="one of " + ", ".join(SAMPLERS))]
    scheduler: Annotated[Sourced | None, Field(description="one of " + ", ".join(SCHEDULERS))] = None

    @field_validator("steps", "width", "height")
    @classmethod
    def _whole(cls, sourced: Sourced, info: ValidationInfo) -> Sourced:
        top = 100 if info.field_name == "steps" else 4096
        if not isinstance(sourced.value, int) or not 1 <= sourced.value <= top:
            raise ValueError(f"must be a whole number from 1 to {top}, not {sourced.value!r}")
        return sourced

    @field_validator("cfg_scale")
    @classmethod
    def _guidance(cls, sourced: Sourced) -> Sourced:
        if isinstance(sourced.value, str) or not 0 <= sourced.value <= 100:
            raise ValueError(f"must be a number from 0 to 100, not {sourced.value!r}")
        return sourced

"""One model of the catalog: its files, flags and defaults, and the source of each number."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field, StrictBool, StrictInt, StrictStr, model_validator

from imagegen.engines.base import LoraUse
from imagegen.models.entry_tables import (
    ADAPTER_SAMPLERS,
    SCHEDULERS,
    Capabilities,
    Defaults,
    Flag,
    Memory,
    Number,
    Sourced,
)
from imagegen.models.previews import DEFAULTS as PREVIEW_DEFAULTS
from imagegen.models.previews import PreviewLook
from imagegen.models.speed import Fast
from imagegen.models.weights import Weights
from imagegen.schemas import Speed
from imagegen.settings import Settings


class Entry(Weights):
    """A model of the catalog, as its TOML file describes it."""

    adapter: Annotated[Literal["sdcpp", "glm"], Field(description="sdcpp or glm")] = "sdcpp"
    noise: Annotated[StrictBool, Field(description="true if the pictures mean nothing")] = False
    limits: Annotated[StrictStr | None, Field(description="a sentence: what its pictures cannot be")] = None
    capabilities: Capabilities
    size_multiple: Annotated[StrictInt, Field(ge=1, le=256, description="pixels, 1 to 256")] = 16
    size_min_px: Annotated[StrictInt, Field(ge=16, le=4096, description="pixels, 16 to 4096")] = 64
    edit_max_aspect: Annotated[
        Number | None, Field(ge=1, description="a number: how many times as long as the other a side of an edit may be")
    ] = None
    defaults: Defaults
    flags: Annotated[list[Flag], Field(default_factory=list, description="[[flags]] tables")]
    options: Annotated[dict[str, Any], Field(default_factory=dict, description="native request fields")]
    fast: Annotated[Fast | None, Field(description="a table: a cache, or why there is none")] = None
    preview: Annotated[PreviewLook | None, Field(description="a table: how previews are made")] = None
    memory: Memory | None = None
    made_by: Annotated[
        Literal["klein", "qwen", "sketch", "glm"] | None, Field(description="klein, qwen, sketch or glm")
    ] = None
    engine_min: Annotated[
        StrictStr | None,
        Field(pattern=r"^[0-9]+(\.[0-9]+)*$", description='sd-server\'s oldest release, such as "0.4.7"'),
    ] = None

    @model_validator(mode="after")
    def _consistent(self) -> Entry:
        d = self.defaults
        for side in (d.width, d.height):
            assert isinstance(side.value, int)
            if side.value % self.size_multiple or side.value < self.size_min_px:
                raise ValueError(
                    f"defaults.width and defaults.height must be multiples of size_multiple "
                    f"({self.size_multiple}) and at least size_min_px ({self.size_min_px}), not {side.value}"
                )
        for field, sourced, known in (
            ("sampler", d.sampler, self.samplers),
            ("scheduler", d.scheduler, SCHEDULERS if self.adapter == "sdcpp" else ()),
        ):
            if sourced is not None and sourced.value not in known:
                allowed = f"one of {', '.join(known)}" if known else f"left out with the adapter {self.adapter}"
                raise ValueError(f"defaults.{field} must be {allowed}, not {sourced.value!r}")
        if self.adapter != "sdcpp" and self.fast is not None and self.fast.cache_mode is not None:
            raise ValueError("fast.cache_mode is sd-server's: only entries of the adapter sdcpp can have one")
        if self.adapter != "sdcpp" and self.preview is not None and self.preview.mode != "off":
            raise ValueError("preview.mode is sd-server's: with the adapter glm it can only be off")
        if self.capabilities.strength and (self.adapter != "sdcpp" or not self.capabilities.edit):
            raise ValueError("capabilities.strength is sd-server's, and only for a model that edits")
        if self.capabilities.edit != (self.capabilities.max_references > 0):
            raise ValueError("capabilities.max_references must be at least 1 exactly when capabilities.edit is true")
        return self

    # Values and ranges
    @property
    def negative_inert(self) -> bool:
        """Whether a negative prompt has no effect: the model reads none, or its default cfg_scale is 1."""
        return not self.capabilities.negative or self.defaults.cfg_scale.value == 1

    def side_range(self, name: Literal["width", "height"]) -> tuple[int, int | None]:
        """The minimum and the maximum of a side in pixels. None: only the operator's cap limits it."""
        sourced: Sourced = getattr(self.defaults, name)
        most = None if sourced.max is None else math.floor(sourced.max)
        return max(self.size_min_px, math.ceil(sourced.min or 0)), most

    @property
    def size_range(self) -> str:
        """The range of both sides as text, such as `64 to 512 px`."""
        words = [_px(*self.side_range("width")), _px(*self.side_range("height"))]
        return words[0] if words[0] == words[1] else f"{words[0]} wide, {words[1]} high"

    @property
    def samplers(self) -> tuple[str, ...]:
        """The samplers that a request may name."""
        return ADAPTER_SAMPLERS[self.adapter]

    @property
    def no_fast(self) -> str | None:
        """A sentence: why the model has no speed `fast`. None if it has."""
        if self.fast is None:
            return f"The entry of {self.name} names no cache."
        return self.fast.refused

    @property
    def preview_look(self) -> PreviewLook:
        """The entry's `preview` table, else the default of its adapter."""
        return self.preview or PREVIEW_DEFAULTS[self.adapter]

    @property
    def engine_flags(self) -> list[str]:
        """The arguments of the `flags` tables."""
        argv: list[str] = []
        for flag in self.flags:
            argv.append(flag.flag)
            if flag.value is not None:
                argv.append(str(flag.value))
        return argv

    # Arguments and request fields of the engine
    def argv(self, settings: Settings) -> list[str]:
        """Engine arguments: every file with its flag (optional ones if they exist), then `engine_flags`.

        Without port, threads and the folder of LoRAs, which the adapter adds.
        """
        argv: list[str] = []
        for file in self.files:
            path = self.path_of(file, settings)
            if file.flag is not None and (path.is_file() or not file.optional):
                argv += [file.flag, str(path)]
        return argv + self.engine_flags

    def loras(self, settings: Settings) -> tuple[LoraUse, ...]:
        """The model's own LoRAs, with which every picture is drawn (optional ones if they exist)."""
        found = [(self.path_of(f, settings), f) for f in self.files if f.role == "lora"]
        return tuple(LoraUse(path, float(f.multiplier)) for path, f in found if path.is_file() or not f.optional)

    def request_options(self, speed: Speed = "quality") -> dict[str, object]:
        """Native fields of a picture's request: `options`, and the cache of `fast`."""
        cache = self.fast.native if speed == "fast" and self.fast and self.fast.cache_mode else {}
        return {**self.options, **cache}


def _px(least: int, most: int | None) -> str:
    if most is None:
        return f"from {least} px"
    return f"{least} px" if least == most else f"{least} to {most} px"

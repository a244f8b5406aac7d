"""Responses about the catalog, the files of models, and LoRAs."""

from __future__ import annotations

from typing import Literal

from imagegen.http.responses.base import Answer
from imagegen.models.entry_tables import Capabilities, Defaults, Licence, Memory
from imagegen.models.speed import Fast
from imagegen.schemas import Kind, Warn


class MemoryNeed(Answer):
    """What a picture took of the GPU's memory here, or of the RAM in the mode `cpu`, by measurement.

    pixels: of the picture and its references. failed: the memory ran out, and `bytes` were available.
    """

    kind: Kind
    mode: Literal["card", "offload", "stream", "cpu"]
    pixels: int
    bytes: int
    failed: bool


class Model(Answer):
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


class Upscaler(Answer):
    """A network that enlarges pictures. `missing`: its file, if that is not here. fetching, fetch_error: as a model."""

    name: str
    title: str
    description: str
    licence: Licence
    installed: bool
    missing: list[str]
    fetching: bool
    fetch_error: str | None


class Models(Answer):
    """The catalog, and the limits of a request."""

    items: list[Model]
    upscalers: list[Upscaler]
    caps: dict[str, int | float]


class ListedLora(Answer):
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


class Loras(Answer):
    """The LoRAs that a request may name."""

    items: list[ListedLora]


class FetchFile(Answer):
    """A file to download. optional: the model works without it."""

    repo: str
    path: str
    bytes: int
    optional: bool


class FetchPlan(Answer):
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


class ModelFile(Answer):
    """A file of a model, in the models folder. kept: why a removal keeps it; null: it is deleted."""

    file: str
    bytes: int
    kept: str | None


class ModelFiles(Answer):
    """The files of a model, and the bytes that removing them frees or has freed."""

    model: str
    files: list[ModelFile]
    freed_bytes: int

"""The parts of the service's answers that the client reads. Fields that it does not know are ignored.

Times are RFC 3339 strings, durations are seconds, sizes are pixels and bytes.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, TypeVar, cast

from imagegen_client.errors import NotTheService

T = TypeVar("T")

Status = Literal["queued", "running", "complete", "failed", "cancelled"]


@dataclass(frozen=True)
class Said:
    """A warning or an error. Its first line is the message, the lines after it are details."""

    code: str
    detail: str

    @property
    def first_line(self) -> str:
        return self.detail.partition("\n")[0]

    @property
    def details(self) -> str:
        return self.detail.partition("\n")[2]


@dataclass(frozen=True)
class Progress:
    """The progress of a running job. `fraction` (0..1) and `left_s` are of the phase."""

    phase: str
    step: int | None = None
    steps: int | None = None
    fraction: float | None = None
    image: int = 1
    left_s: float | None = None
    detail: str | None = None


@dataclass(frozen=True)
class PreviewInfo:
    """The newest preview of a running job: the number of its picture, and the step that it follows."""

    url: str
    image: int
    step: int
    steps: int


@dataclass(frozen=True)
class ImageInfo:
    """A stored picture, without its bytes. `job_id` is None for an upload.

    kept_at, board, note: of a kept picture. prompt, model: of its job, in a list of pictures.
    """

    id: str
    width: int
    height: int
    bytes: int
    sha256: str
    seed: int | None = None
    url: str = ""
    job_id: str | None = None
    created_at: str | None = None
    expires_at: str | None = None
    kept_at: str | None = None
    board: str | None = None
    note: str | None = None
    prompt: str | None = None
    model: str | None = None
    warnings: list[Said] = field(default_factory=list)


@dataclass(frozen=True)
class JobState:
    """A job as the service reports it. `params` are the parameters of the engine, all resolved.

    `raw` is everything that the service says about the job.
    """

    job_id: str
    status: Status
    kind: str = "generate"
    model: str = ""
    prompt: str = ""
    position: int | None = None
    progress: Progress | None = None
    preview: PreviewInfo | None = None
    eta_s: float | None = None
    params: dict[str, Any] = field(default_factory=dict)
    images: list[ImageInfo] = field(default_factory=list)
    warnings: list[Said] = field(default_factory=list)
    error: Said | None = None
    created_at: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    expires_at: str | None = None
    raw: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def ended(self) -> bool:
        return self.status in {"complete", "failed", "cancelled"}


@dataclass(frozen=True)
class Check:
    """What a request would become. `draws_it`: would the picture show what was asked for? Seconds, None if unknown."""

    kind: str
    model: str
    draws_it: bool
    fits: bool = True
    drawing_s: float | None = None
    eta_s: float | None = None
    params: dict[str, Any] = field(default_factory=dict)
    warnings: list[Said] = field(default_factory=list)


@dataclass(frozen=True)
class Inspection:
    """How a PNG was made.

    program: whose format the settings have (`imagegen`, `automatic1111`, `comfyui`, `invokeai`), None without settings.
    settings: what the file says. request: what of it this service can draw with: `client.draw(**found.request)`.
    """

    program: str | None
    width: int
    height: int
    settings: dict[str, Any] = field(default_factory=dict)
    request: dict[str, Any] | None = None
    warnings: list[Said] = field(default_factory=list)


@dataclass(frozen=True)
class Provenance:
    """What a file says of its origin.

    verdict: `intact`, `changed`, `unreadable` or `none`. by_this_service: it is intact, and this service signed it.
    source_type: IPTC's digital source type. drawing: model, seed and prompt. sources: the pictures it was made from.
    """

    verdict: str
    by_this_service: bool
    signer: str | None = None
    generator: str | None = None
    source_type: str | None = None
    actions: list[str] = field(default_factory=list)
    drawing: dict[str, Any] = field(default_factory=dict)
    sources: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Capabilities:
    """What can be asked of a model."""

    draw: bool = True
    edit: bool = False
    mask: bool = False
    max_references: int = 0


@dataclass(frozen=True)
class Model:
    """A model of the catalog. `picture_s`: seconds of a usual picture here, None until one was measured.

    `raw` is everything that the service says about the model.
    """

    name: str
    title: str
    description: str
    default: bool
    installed: bool
    capabilities: Capabilities
    noise: bool = False
    limits: str | None = None
    picture_s: float | None = None
    previews: bool = False
    misfits: list[Said] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict, repr=False)


def parsed(kind: type[T], answer: Any, what: str) -> T:
    """Read an answer as the dataclass `kind`. `what` names it in the error. Raises NotTheService."""
    try:
        return cast(T, _value(kind, answer))
    except (TypeError, ValueError, KeyError) as invalid:
        raise NotTheService(
            "not_the_service",
            f"The service answered with something that is not a {what} ({invalid}). "
            "Service and client are probably of different versions: update both.",
        ) from None


def items(kind: type[T], answer: Any, what: str) -> list[T]:
    """Read the `items` of a list. Raises NotTheService."""
    found = answer.get("items") if isinstance(answer, Mapping) else None
    if not isinstance(found, list):
        raise NotTheService("not_the_service", f"The service answered with something that is not a list of {what}s.")
    return [parsed(kind, item, what) for item in found]


@cache
def _fields(kind: Any) -> dict[str, tuple[Any, bool]]:
    """The fields of a dataclass: type, and whether it is required."""
    hints = typing.get_type_hints(kind)
    missing = dataclasses.MISSING
    return {
        one.name: (hints[one.name], one.default is missing and one.default_factory is missing)
        for one in dataclasses.fields(kind)
    }


def _value(kind: Any, value: Any) -> Any:
    """The JSON value as `kind`. Raises TypeError, KeyError."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind):
        return _object(cast("type[Any]", kind), value)
    if origin is types.UnionType or origin is typing.Union:
        return None if value is None else _value(_without_none(arguments), value)
    if origin is Literal:
        if value not in arguments:
            raise TypeError(f"{value!r} is none of {', '.join(map(str, arguments))}")
        return value
    if origin is list:
        return [_value(arguments[0], one) for one in _instance(list, value)]
    if origin is dict:
        return dict(_instance(dict, value))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return _instance(kind, value)


def _object(kind: type[Any], value: Any) -> Any:
    given = _instance(dict, value)
    read: dict[str, Any] = {}
    if "raw" in _fields(cast(Hashable, kind)):
        given = given | {"raw": given}
    for name, (hint, required) in _fields(cast(Hashable, kind)).items():
        if name in given:
            read[name] = _value(hint, given[name])
        elif required:
            raise KeyError(name)
    return kind(**read)


def _instance(kind: type[Any], value: Any) -> Any:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"{str(value)[:80]!r} is no {kind.__name__}")
    return value


def _without_none(arguments: Sequence[Any]) -> Any:
    return next(one for one in arguments if one is not type(None))

"""The parts of the image service's answers that the front reads, and the error that every request can raise."""

from __future__ import annotations

import logging
from typing import Any, Literal, TypeVar

from fastmcp.exceptions import ToolError
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

log = logging.getLogger(__name__)

T = TypeVar("T")


class ServiceError(ToolError):
    """The service refused, failed or could not be reached. The message is a sentence for a person.

    code: the service's own code, or `unreachable`, `distrusted`, `not_the_service`, `open_service`, `not_there_yet`.
    """

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class Read(BaseModel):
    """A part of an answer. Fields that the front does not use are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Said(Read):
    """A warning or an error of a job. Its first line is the message, the lines after it are details."""

    code: str
    detail: str

    @property
    def first_line(self) -> str:
        return self.detail.partition("\n")[0]

    @property
    def details(self) -> str:
        return self.detail.partition("\n")[2]


class Progress(Read):
    """The progress of a running job. `fraction` (0..1) is that of the phase."""

    phase: str
    step: int | None = None
    steps: int | None = None
    fraction: float | None = None
    image: int = 1
    left_s: float | None = None
    detail: str | None = None


class Picture(Read):
    """A finished picture. Sizes in pixels and bytes."""

    id: str
    width: int
    height: int
    bytes: int
    sha256: str
    seed: int | None = None


class Job(Read):
    """A job as the service reports it. Times are RFC 3339 strings."""

    job_id: str
    status: Literal["queued", "running", "complete", "failed", "cancelled"]
    kind: str = "generate"
    model: str = ""
    prompt: str = ""
    position: int | None = None
    progress: Progress | None = None
    eta_s: float | None = None
    params: dict[str, Any] = {}
    images: list[Picture] = []
    warnings: list[Said] = []
    error: Said | None = None
    created_at: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    expires_at: str | None = None

    @property
    def ended(self) -> bool:
        return self.status in {"complete", "failed", "cancelled"}


class Check(Read):
    """How the service would handle a request. `draws_it`: would the picture show what was asked for?"""

    kind: str
    model: str
    draws_it: bool
    warnings: list[Said] = []


class DefaultModel(Read):
    """The model of requests that name none. `limits` is a sentence on what it cannot draw."""

    default: str
    limits: str | None = None


class Status(Read):
    """The state of the service."""

    model: DefaultModel


class NextPage(Read):
    """The cursor of a list's next page; None at the end of the list."""

    next: int | None = None


class _Items(Read):
    items: list[Any]


def parsed(kind: type[T], answer: Any, what: str) -> T:
    """Validate an answer as `kind`. `what` names it in the error. Raises ServiceError `not_the_service`."""
    try:
        return TypeAdapter(kind).validate_python(answer)
    except ValidationError as invalid:
        log.warning("unreadable %s: %s", what, invalid)
        raise ServiceError(
            "not_the_service",
            f"The image service answered with something that is not a {what}. "
            "Service and MCP front are probably of different versions: update both.",
        ) from None


def items(kind: type[T], answer: Any, what: str) -> list[T]:
    """Validate the `items` of a list. Raises ServiceError `not_the_service`."""
    return [parsed(kind, item, what) for item in parsed(_Items, answer, f"list of {what}s").items]

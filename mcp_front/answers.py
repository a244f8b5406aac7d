"""The answers of the service: those that imagegen_client reads, more of the front's own, and the front's error."""

from __future__ import annotations

import logging
from typing import Any, TypeVar

from fastmcp.exceptions import ToolError
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from imagegen_client.answers import Check, Said
from imagegen_client.answers import ImageInfo as Picture
from imagegen_client.answers import JobState as Job

__all__ = [
    "Check",
    "DefaultModel",
    "Job",
    "Listed",
    "Picture",
    "Read",
    "Said",
    "ServiceError",
    "Status",
    "items",
    "parsed",
]

log = logging.getLogger(__name__)

T = TypeVar("T")


class ServiceError(ToolError):
    """The service refused, failed or could not be reached. The message is a sentence for a person.

    code: the service's own code, or one of imagegen_client's, `open_service` or `not_there_yet`.
    """

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class Read(BaseModel):
    """A part of an answer. Fields that the front does not use are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class DefaultModel(Read):
    """The model of requests that name none. `limits` is a sentence on what it cannot draw."""

    default: str
    limits: str | None = None


class Status(Read):
    """The state of the service."""

    model: DefaultModel


class Listed(Read):
    """A picture in the list, with what its job was; `kind` is None for an upload, `kept_at` for one that expires."""

    id: str
    width: int
    height: int
    seed: int | None
    kind: str | None
    model: str | None
    prompt: str | None
    expires_at: str | None
    kept_at: str | None
    board: str | None
    note: str | None


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

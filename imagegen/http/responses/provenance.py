"""Responses about a file's provenance."""

from __future__ import annotations

from typing import Literal

from imagegen.http.responses.base import Answer
from imagegen.http.responses.jobs import Image
from imagegen.images.provenance.report import Report, Verdict


class Drawing(Answer):
    """What this program wrote into the manifest."""

    model: str | None
    seed: int | None
    prompt: str | None


class SourcePicture(Answer):
    """A picture that this one was made from: `parent` was changed, `input` was looked at."""

    relation: Literal["parent", "input"]
    signed: bool
    by_this_service: bool
    source_type: str | None
    drawing: Drawing


class Provenance(Answer):
    """What a file says of its origin. `source_type`: IPTC's name. `picture`: the same file, if it is stored here."""

    verdict: Verdict
    by_this_service: bool
    signer: str | None
    generator: str | None
    source_type: str | None
    actions: list[str]
    drawing: Drawing
    sources: list[SourcePicture]
    problems: list[str]
    picture: Image | None

    @classmethod
    def of(cls, report: Report, picture: Image | None) -> Provenance:
        return cls.model_validate({**vars(report), "picture": picture}, from_attributes=True)

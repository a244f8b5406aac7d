"""What all response models share: their base, the types of their fields, and the problem document."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

When = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Id = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Answer(BaseModel):
    """Extra fields are forbidden."""

    model_config = ConfigDict(extra="forbid")


class Problem(BaseModel):
    """Any refusal (RFC 9457): `code` is for programs, `detail` a sentence that says what to do."""

    type: str
    status: int
    code: str
    title: str
    detail: str

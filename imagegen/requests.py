"""Bodies of requests: the fields that a caller can send, and their types. Admission checks their values."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
)
from pydantic_core import PydanticCustomError, core_schema

from imagegen.schemas import Background, Factor, PreviewWish, Speed

Number = StrictFloat  # whole numbers are taken too


class WebhookWish(BaseModel):
    """Where to send the job when it has ended; with a secret (`whsec_…`) the message is signed."""

    model_config = ConfigDict(extra="forbid")

    url: StrictStr
    secret: Annotated[StrictStr | None, Field(repr=False)] = None


class LoraWish(BaseModel):
    """A LoRA to draw with: its name, as `GET /api/loras` lists it, and its strength (1 if omitted)."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    name: StrictStr
    strength: Number = 1.0


class GenerateRequest(BaseModel):
    """A request for pictures from words. Everything but the prompt has a default in the model's catalog entry."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    prompt: StrictStr
    negative: StrictStr | None = None
    width: StrictInt | None = None
    height: StrictInt | None = None
    steps: StrictInt | None = None
    seed: StrictInt | None = None
    cfg_scale: Number | None = None
    sampler: StrictStr | None = None
    model: StrictStr | None = None
    speed: Speed | None = None
    loras: list[LoraWish] | None = None
    background: Background | None = None
    n: StrictInt = 1
    lease_s: Number | None = None
    preview: PreviewWish | None = None
    draft: StrictBool | None = None
    webhook: WebhookWish | None = None


class _TextOrBytes:
    """pydantic's schema of a string that also accepts bytes. JSON has no bytes, so only a form's files are bytes."""

    @staticmethod
    def __get_pydantic_core_schema__(_source: Any, _handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        def check(value: Any, text: core_schema.ValidatorFunctionWrapHandler) -> Any:
            return value if isinstance(value, bytes) else text(value)

        return core_schema.no_info_wrap_validator_function(check, core_schema.str_schema(strict=True))


Picture = Annotated[str | bytes, _TextOrBytes]
"""A picture of a request: the id of a stored one, a `data:image/…;base64,` URL, or the bytes of a form's file."""


class EditRequest(GenerateRequest):
    """The same, plus the pictures to start from: ids of stored pictures, or `data:image/…;base64,` URLs."""

    images: Annotated[list[Picture], Field(min_length=1, fail_fast=True)]
    mask: Picture | None = None
    fit: Literal["contain", "cover", "stretch"] = "contain"
    strength: Number | None = None


class VariationRequest(BaseModel):
    """A request for variations: of a job, of a picture that a job drew, or of an uploaded picture.

    prompt, model: for an uploaded picture only, which a model that edits draws anew.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    image: Picture | None = None
    job_id: StrictStr | None = None
    n: StrictInt = 1
    seed: StrictInt | None = None
    prompt: StrictStr | None = None
    model: StrictStr | None = None
    lease_s: Number | None = None
    preview: PreviewWish | None = None
    webhook: WebhookWish | None = None


class CheckRequest(EditRequest):
    """A request to check: an edit if it has `images` or a mask, else for pictures from words."""

    images: Annotated[list[Picture], Field(fail_fast=True)] = []

    @property
    def wanted(self) -> GenerateRequest:
        """The request itself."""
        given = self.model_dump(exclude_unset=True)
        if self.images or self.mask is not None:
            return EditRequest.model_validate(given)
        given = {name: value for name, value in given.items() if name in GenerateRequest.model_fields}
        return GenerateRequest.model_validate(given)


def _factor(value: Any) -> Any:
    if value not in (2, 4) or isinstance(value, bool | float):
        raise PydanticCustomError("factor", "neither 2 nor 4")
    return value


class UpscaleRequest(BaseModel):
    """A request for a larger copy of a picture. Without `model`: the first upscaler that is installed, else Lanczos."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    image: Picture
    factor: Annotated[Factor, BeforeValidator(_factor)] = 4
    model: StrictStr | None = None
    lease_s: Number | None = None
    webhook: WebhookWish | None = None


class KeepRequest(BaseModel):
    """How to keep a picture. A field that is left out stays as it is; null removes the picture from its board, or the
    note."""

    model_config = ConfigDict(extra="forbid")

    board: StrictStr | None = None
    note: StrictStr | None = None


class BoardRequest(BaseModel):
    """The new name of a board."""

    model_config = ConfigDict(extra="forbid")

    name: StrictStr


class ZipRequest(BaseModel):
    """The ids of the pictures of an archive, in order."""

    model_config = ConfigDict(extra="forbid")

    ids: Annotated[list[StrictStr], Field(min_length=1, fail_fast=True)]

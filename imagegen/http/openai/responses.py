"""The answers of OpenAI's API, as OpenAI's clients read them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from imagegen.http.responses.base import Answer, Id
from imagegen.schemas import Background, Warn


class OpenAIErrorBody(BaseModel):
    """The content of OpenAI's error."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIError(Answer):
    """A refusal under /v1, as OpenAI's clients read it."""

    error: OpenAIErrorBody


class OpenAIImage(Answer):
    """One picture as OpenAI's clients read it, with its id and seed here."""

    id: Id
    seed: int | None
    b64_json: str | None = None
    url: str | None = None


class OpenAITokens(Answer):
    """Tokens of a request; nothing is metered here."""

    text_tokens: Literal[0]
    image_tokens: Literal[0]


class OpenAIUsage(Answer):
    """The usage that OpenAI's clients read; all zero."""

    input_tokens: Literal[0]
    input_tokens_details: OpenAITokens
    output_tokens: Literal[0]
    total_tokens: Literal[0]


class OpenAIImages(Answer):
    """OpenAI's answer, with the job's id and warnings; `quality`: low where the picture was drawn fast."""

    created: int
    data: list[OpenAIImage]
    background: Background
    output_format: Literal["png", "jpeg", "webp"]
    quality: Literal["low", "high"]
    size: str
    usage: OpenAIUsage
    model: str
    job_id: Id
    warnings: list[Warn] = Field([])


class OpenAIModel(Answer):
    """A model as OpenAI's clients read it; `alias_of`: the model that the name stands for."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    alias_of: str | None = None


class OpenAIModels(Answer):
    """The models that can draw now."""

    object: Literal["list"]
    data: list[OpenAIModel]

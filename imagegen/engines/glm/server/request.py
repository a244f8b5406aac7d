"""The body of `POST /draw`, with the engine's own bounds in addition to the service's caps."""

from __future__ import annotations

from typing import Annotated

from pydantic import Base64Bytes, BaseModel, ConfigDict, Field

MAX_BODY_BYTES = 128 * 1024 * 1024
"""Four references of the largest size as PNG in base64, with a margin."""

Side = Annotated[int, Field(ge=32, le=4096, multiple_of=32)]  # the model's card: divisible by 32


class DrawRequestBody(BaseModel):
    """One picture: sides in pixels, references as PNG files in base64, of the picture's size."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    prompt: Annotated[str, Field(max_length=30_000)]
    width: Side
    height: Side
    steps: Annotated[int, Field(ge=1, le=100)]
    guidance_scale: Annotated[float, Field(ge=0, le=30)]
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    references: Annotated[list[Base64Bytes], Field(max_length=16)] = []

"""Settings that bound requests and the queue."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field


class Limits(BaseModel):
    """The largest request that is accepted, and the longest queue."""

    max_dimension: Annotated[int, Field(ge=64, le=4096, description="Longest side of a picture, in pixels.")] = 1024
    max_upscaled_px: Annotated[
        int, Field(ge=4096, le=67_108_864, description="Largest result of an upscale, in pixels: 4096x4096 by default.")
    ] = 16_777_216
    max_steps: Annotated[int, Field(ge=1, le=100, description="Most sampling steps.")] = 100
    max_n: Annotated[int, Field(ge=1, le=16, description="Most pictures of one job.")] = 4
    max_prompt_chars: Annotated[
        int, Field(ge=1, le=12_000, description="Longest prompt, and longest negative prompt, in characters.")
    ] = 4000
    max_loras: Annotated[int, Field(ge=0, le=16, description="Most LoRAs of one request; 0: none may be named.")] = 4
    max_references: Annotated[int, Field(ge=1, le=16, description="Most reference pictures of one edit.")] = 4
    max_body_bytes: Annotated[int, Field(ge=65_536, description="Largest request body, in bytes.")] = 25 * 1024 * 1024
    max_bodies_bytes: Annotated[
        int,
        Field(
            ge=65_536,
            description="Request bodies over 64 KiB that may be arriving or in work at once, in bytes, in all.",
        ),
    ] = 256 * 1024 * 1024
    max_decoded_px: Annotated[int, Field(ge=4096, description="Largest reference picture, in pixels.")] = 40_000_000
    max_queue: Annotated[int, Field(ge=1, le=100_000, description="Most jobs waiting.")] = 100
    max_job_s: Annotated[float, Field(gt=0, description="Longest a job may keep the GPU, in seconds.")] = 1200.0

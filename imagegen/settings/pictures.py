"""Settings of finished pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field


class Retention(BaseModel):
    """How long pictures are kept, and which parameters their files contain."""

    image_ttl: Annotated[float, Field(gt=0, description="Seconds that a job and its pictures are kept.")] = 3600.0
    keep_max: Annotated[
        int,
        Field(ge=0, le=1_000_000, description="Most pictures that are kept beyond their expiry; 0: none may be."),
    ] = 1000
    png_metadata: Annotated[
        Literal["full", "no-prompt", "off"],
        Field(description="Generation parameters in the PNG: full; no-prompt: all but the prompts; off: none."),
    ] = "full"


class Provenance(BaseModel):
    """How pictures are marked as AI-generated and signed."""

    provenance: Annotated[
        Literal["c2pa", "metadata", "off"],
        Field(
            description="How a drawn picture is marked as AI-generated: c2pa: by a signed C2PA manifest and in XMP; "
            "metadata: in XMP; off: not at all."
        ),
    ] = "c2pa"
    provenance_cert: Annotated[
        Path | None,
        Field(
            description="PEM file of your own certificate for C2PA, the signer's first, then its authorities; unset: "
            "the service makes its own."
        ),
    ] = None
    provenance_key: Annotated[
        Path | None, Field(description="PEM file of the private key of IMAGEGEN_PROVENANCE_CERT.")
    ] = None
    provenance_required: Annotated[
        bool,
        Field(
            description="Fail a job whose pictures cannot be signed, instead of marking them in XMP alone with the "
            "warning `not_signed`."
        ),
    ] = False

"""Digest of a request, by which a repeated Idempotency-Key is compared with the request that it was first sent with."""

from __future__ import annotations

import hashlib
import json

from imagegen.admission.pictures import file_of, is_id
from imagegen.requests import EditRequest, GenerateRequest, Picture, UpscaleRequest
from imagegen.schemas import Kind


def digest(request: GenerateRequest | UpscaleRequest, max_bytes: int) -> str:
    """SHA-256 of the request. It depends on the bytes of the pictures and not on how they were sent (form, data URL).

    Raises Refused 422 `bad_image`.
    """
    body = request.model_dump(mode="json", exclude_none=True, exclude={"images", "mask", "image"})
    if isinstance(request, EditRequest):
        body["images"] = [_name(one, max_bytes) for one in request.images]
        if request.mask is not None:
            body["mask"] = _name(request.mask, max_bytes)
    elif isinstance(request, UpscaleRequest):
        body |= {"kind": Kind.UPSCALE.value, "image": _name(request.image, max_bytes)}
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _name(picture: Picture, max_bytes: int) -> str:
    """A picture's id, or the SHA-256 of its file."""
    if is_id(picture):
        return picture
    return f"sha256:{hashlib.sha256(file_of(picture, max_bytes)).hexdigest()}"

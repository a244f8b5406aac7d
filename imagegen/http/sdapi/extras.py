"""AUTOMATIC1111's extra-single-image: a larger copy of one picture."""

from __future__ import annotations

import base64
from functools import partial
from typing import Any

from pydantic import BaseModel, ConfigDict, StrictStr, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from imagegen.app import App
from imagegen.http import hints
from imagegen.http.body import read_object
from imagegen.http.context import app_of, owner_of
from imagegen.http.encoded_pictures import as_data_url
from imagegen.http.hints import EMPTY
from imagegen.http.keep_alive import answered
from imagegen.http.problems import invalid
from imagegen.http.sdapi.errors import sdapi_error
from imagegen.http.sdapi.routes import callers_of
from imagegen.http.wait import accept
from imagegen.requests import UpscaleRequest
from imagegen.schemas import Job, Refused, Warn

NAMES = {
    "None": "lanczos",  # the web UI then resizes by Lanczos' filter
    "Lanczos": "lanczos",
    "R-ESRGAN 4x+": "realesrgan-x4plus",
    "R-ESRGAN 4x+ Anime6B": "realesrgan-x4plus-anime",
}
"""Upscalers by the web UI's names. Another name is one of this service."""

SILENT = frozenset({
    *("show_extras_results", "upscaling_crop", "upscale_first", "codeformer_weight", "extras_upscaler_2_visibility"),
    *("upscaling_resize_w", "upscaling_resize_h"),
})  # fmt: skip
"""Fields without an effect here, whatever their value; a size counts only with `resize_mode` 1, which is refused."""

REFUSED: dict[str, tuple[object, str]] = {
    "resize_mode": (0, "Ask for a factor: resize_mode 0 with upscaling_resize 2 or 4."),
    "gfpgan_visibility": (0, "There is no face restorer here."),
    "codeformer_visibility": (0, "There is no face restorer here."),
    "upscaler_2": ("None", "One upscaler is used: leave upscaler_2 out."),
}
"""Fields that, with another value than the first one given here, would require a different picture."""


class ExtraSingleImage(BaseModel):
    """The fields of extra-single-image that have an effect. Without `upscaler_1` the service chooses."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    image: StrictStr
    upscaling_resize: float = 2
    upscaler_1: StrictStr | None = None


async def extra_single_image(request: Request) -> Response:
    """A larger copy of a picture. Waits for it."""
    app, owner = app_of(request), owner_of(request)
    body = await read_object(request, untyped=True)
    wanted, warnings = _read(body)
    del body  # frees the picture
    job = await accept(request, wanted, warnings)
    del wanted
    callers_of(request).began(owner, job.id, app)
    return await answered(request, job, partial(_result, app), sdapi_error)


def _read(body: dict[str, Any]) -> tuple[UpscaleRequest, list[Warn]]:
    """The request, and the warnings for its fields without an effect. Raises Refused 422."""
    for name, (fine, why) in REFUSED.items():
        value = body.get(name)
        if value not in EMPTY and value != fine:
            detail = f"{name}={hints.shown(value)} is not possible here. {why}"
            raise Refused(422, "invalid_request", detail, param=name)
    used = ExtraSingleImage.model_fields
    unknown = [name for name in body if name not in used and name not in SILENT and name not in REFUSED]
    try:
        asked = ExtraSingleImage.model_validate({name: value for name, value in body.items() if name in used})
    except ValidationError as error:
        raise invalid(error) from None
    if asked.upscaling_resize not in (2, 4):
        detail = f"upscaling_resize is {asked.upscaling_resize:g}; 2 and 4 are possible here."
        raise Refused(422, "invalid_request", detail, param="upscaling_resize")
    model = NAMES.get(asked.upscaler_1, asked.upscaler_1) if asked.upscaler_1 else None
    fields = {"image": as_data_url(asked.image), "factor": int(asked.upscaling_resize), "model": model}
    return UpscaleRequest.model_validate(fields), hints.unknown(unknown)


async def _result(app: App, job: Job) -> dict[str, Any]:
    data = await app.images.read(job.images[0].id)
    return {"html_info": " ".join(one.detail for one in job.warnings), "image": base64.b64encode(data).decode()}


ROUTES = [Route("/sdapi/v1/extra-single-image", extra_single_image, methods=["POST"])]

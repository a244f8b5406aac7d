"""What OpenAI's images API may ask for, read strictly: a value that would mean another picture is never dropped."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StrictStr, ValidationError
from starlette.datastructures import UploadFile
from starlette.requests import Request

from imagegen.http.body import read_json
from imagegen.http.context import own_urls
from imagegen.http.multipart import picture, read_form
from imagegen.schemas import EditRequest, GenerateRequest, Refused, Speed

SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})")
OWN_PICTURE = re.compile(r"/images/([0-9a-f]{32})\.(?:png|jpg|webp)")

IGNORED = ("user", "safety_identifier")
"""Names of the caller's own users, for OpenAI's abuse reports: no picture depends on them."""
FIXED: dict[str, tuple[tuple[Any, ...], str]] = {
    "quality": (("auto", "standard"), "There are no levels of quality; choose steps or speed (extra fields)."),
    "style": ((), "Describe the style in the prompt instead."),
    "background": (("auto", "opaque"), "Pictures are opaque here."),
    "moderation": (("auto",), "The operator's policy applies to every picture: see /api/policy."),
    "partial_images": ((0, "0"), "The engine gives no partial pictures. Leave it out, or send 0."),
    "input_fidelity": ((), "The model takes references as they are. Leave it out."),
    "complexity": ((), "There is no planning before a picture here. Leave it out."),
    "frame_count": ((), "There are no animations here."),
    "frame_duration_ms": ((), "There are no animations here."),
    "svg": ((), "There are no vector drawings here."),
    "markup": ((), "Say in the prompt what to change."),
}
"""Parameters without an effect here: the values that ask for what happens anyway, and what to do about others."""


class ImagesRequest(BaseModel):
    """OpenAI's parameters that have an effect here, and the service's own as extra fields."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    prompt: StrictStr
    model: StrictStr | None = None
    n: int | None = None
    size: StrictStr | None = None
    response_format: Literal["b64_json", "url"] | None = None
    output_format: Literal["png", "jpeg", "webp"] | None = None
    output_compression: Annotated[int, Field(ge=0, le=100)] | None = None
    stream: bool | None = None
    # extra fields of this service
    negative: StrictStr | None = None
    steps: int | None = None
    seed: int | None = None
    cfg_scale: float | None = None
    sampler: StrictStr | None = None
    speed: Speed | None = None

    @property
    def format(self) -> Literal["png", "jpeg", "webp"]:
        return self.output_format or "png"

    @property
    def quality(self) -> int:
        """For Pillow, 1 to 100; OpenAI's default is 100."""
        return max(1, 100 if self.output_compression is None else self.output_compression)

    def wanted(self) -> GenerateRequest:
        """The job that is asked for. Raises Refused."""
        return GenerateRequest.model_validate(self._common())

    def forget_pictures(self) -> None:
        """Drop the pictures of the request, once `wanted` has them: the request lasts as long as its job."""

    def _common(self) -> dict[str, Any]:
        names = {"prompt", "model", "negative", "steps", "seed", "cfg_scale", "sampler", "speed"}
        width, height = _sides(self.size)
        return self.model_dump(include=names) | {"n": 1 if self.n is None else self.n, "width": width, "height": height}


class ImagesEditRequest(ImagesRequest):
    """The same for an edit: pictures as ids or data URLs."""

    images: Annotated[list[StrictStr], Field(min_length=1, fail_fast=True)]
    mask: StrictStr | None = None
    fit: Literal["contain", "cover", "stretch"] = "contain"

    def wanted(self) -> EditRequest:
        """The job that is asked for. Raises Refused."""
        more = {"images": self.images, "mask": self.mask, "fit": self.fit}
        return EditRequest.model_validate(self._common() | more)

    def forget_pictures(self) -> None:
        self.images, self.mask = [], None


R = TypeVar("R", bound=ImagesRequest)


class _Anything(BaseModel):
    model_config = ConfigDict(extra="allow")


async def read_generation(request: Request) -> ImagesRequest:
    """The body of /v1/images/generations. Raises Refused."""
    return _read(ImagesRequest, (await read_json(request, _Anything)).model_dump())


async def read_edit(request: Request) -> ImagesEditRequest:
    """The body of /v1/images/edits, JSON or a form. Raises Refused."""
    if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        return _read(ImagesEditRequest, await _form(request))
    fields = (await read_json(request, _Anything)).model_dump()
    if "images" in fields and "image" in fields:
        raise _wrong("image", "invalid_value", "The body has both image and images. Put all pictures into images.")
    pictures = fields.pop("images", fields.pop("image", []))
    bases = own_urls(request)
    fields["images"] = [_reference(one, bases) for one in (pictures if isinstance(pictures, list) else [pictures])]
    if fields.get("mask") is not None:
        fields["mask"] = _reference(fields["mask"], bases)
    return _read(ImagesEditRequest, fields)


async def _form(request: Request) -> dict[str, Any]:
    fields: dict[str, Any] = {"images": []}
    form = await read_form(request)
    for name, value in form.multi_items():
        if name in {"image", "image[]"}:
            fields["images"].append(await picture(value))
        elif name == "mask":
            fields["mask"] = await picture(value)
        else:
            fields[name] = (value.filename or "a file") if isinstance(value, UploadFile) else value
    await form.close()  # frees the files: the request lasts as long as its job
    return fields


def _reference(value: Any, bases: Sequence[str]) -> Any:
    """A picture in JSON: `{"image_url": …}` as OpenAI has it, or an id or a data URL as the rest of this service."""
    url = value.get("image_url") if isinstance(value, Mapping) else value
    if not isinstance(url, str):
        detail = 'A picture in JSON is {"image_url": "data:image/png;base64,…"}; there are no file_ids here.'
        raise _wrong("image", "invalid_value", detail)
    if url.startswith(("http://", "https://")):
        paths = [url.removeprefix(base) for base in bases if url.startswith(f"{base}/")]
        own = next((found for path in paths if (found := OWN_PICTURE.fullmatch(path))), None)
        if own is None:
            raise _wrong("image", "invalid_value", "Pictures of other sites are not fetched; send the file itself.")
        return own[1]
    return url


def _read(model: type[R], fields: dict[str, Any]) -> R:
    for name in IGNORED:
        fields.pop(name, None)
    for name, (fine, why) in FIXED.items():
        value = fields.pop(name, None)
        if value is not None and value not in fine:
            raise _wrong(name, "unsupported_value", f"{name}={str(value)[:40]!r} is not possible here. {why}")
    if fields.get("images") == []:
        raise _wrong("image", "missing_required_parameter", "Missing required parameter: 'image'.")
    try:
        read = model.model_validate(fields)
    except ValidationError as error:
        raise _invalid(error) from None
    if read.output_compression not in {None, 100} and (read.format == "png" or read.response_format == "url"):
        why = "output_compression is for jpeg and webp pictures that come as b64_json."
        raise _wrong("output_compression", "unsupported_value", why)
    if read.stream and read.response_format == "url":
        why = "A stream carries the pictures themselves: leave response_format out, or do not stream."
        raise _wrong("response_format", "unsupported_value", why)
    return read


def _sides(size: str | None) -> tuple[int | None, int | None]:
    if size is None or size == "auto":
        return None, None
    matched = SIZE.fullmatch(size)
    if matched is None:
        raise _wrong("size", "invalid_value", f"size is {size[:40]!r}; it must be auto, or WIDTHxHEIGHT as in 256x256.")
    return int(matched[1]), int(matched[2])


def _invalid(error: ValidationError) -> Refused:
    """The first thing that is wrong, in OpenAI's words."""
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][0])[:64] if first["loc"] else None
    match first["type"]:
        case "extra_forbidden":
            return _wrong(name, "unknown_parameter", f"Unknown parameter: '{name}'.")
        case "missing":
            return _wrong(name, "missing_required_parameter", f"Missing required parameter: '{name}'.")
        case _:
            return _wrong(name, "invalid_value", f"{name}: {first['msg']}.")


def _wrong(param: str | None, code: str, detail: str) -> Refused:
    return Refused(400, code, detail, param=param)

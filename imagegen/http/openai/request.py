"""Requests of OpenAI's images API, parsed and converted to this service's requests."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, StrictStr, ValidationError
from starlette.datastructures import UploadFile
from starlette.requests import Request

from imagegen.admission.repeats import VARIATION_PROMPT
from imagegen.http import hints
from imagegen.http.body import read_object
from imagegen.http.context import app_of, own_urls
from imagegen.http.encoded_pictures import as_data_url
from imagegen.http.hints import EMPTY
from imagegen.http.multipart import json_text, picture, read_form
from imagegen.http.openai.fields import PICTURES, settled, wrong
from imagegen.requests import EditRequest, GenerateRequest, LoraWish, Picture
from imagegen.schemas import Refused, Speed, Warn

SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})")
OWN_PICTURE = re.compile(r"/images/([0-9a-f]{32})\.(?:png|jpg|webp)")
STRICT_PICTURES = ("image", "image[]")

URLS_BY_DEFAULT = frozenset({"dall-e-2", "dall-e-3"})
"""OpenAI's models whose answer has addresses unless `response_format` says otherwise. LangChain relies on it."""


class ImagesRequest(BaseModel):
    """OpenAI's parameters that have an effect here, and the service's own as extra fields.

    Under IMAGEGEN_STRICT_OPENAI=1 other fields are refused, else they are taken with a warning.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, json_schema_extra={"additionalProperties": True})

    prompt: StrictStr
    model: StrictStr | None = None
    n: int | None = None
    size: StrictStr | None = None
    response_format: Literal["b64_json", "url"] | None = None
    output_format: Literal["png", "jpeg", "webp"] | None = None
    output_compression: Annotated[int, Field(ge=0, le=100)] | None = None
    stream: bool | None = None
    partial_images: Annotated[int, Field(ge=0, le=3)] | None = None
    quality: StrictStr | None = None  # `settled` removes every value except `low`
    background: Literal["auto", "opaque", "transparent"] | None = None  # `settled` leaves only the last
    # extra fields of this service
    width: int | None = None
    height: int | None = None
    negative: StrictStr | None = None
    steps: int | None = None
    seed: int | None = None
    cfg_scale: float | None = None
    sampler: StrictStr | None = None
    speed: Speed | None = None
    loras: list[LoraWish] | None = None

    _warnings: list[Warn] = PrivateAttr(default_factory=list)

    @property
    def warnings(self) -> list[Warn]:
        """Warnings for parts of the request without an effect; they come first in the job."""
        return self._warnings

    @property
    def format(self) -> Literal["png", "jpeg", "webp"]:
        return self.output_format or "png"

    @property
    def compression(self) -> int:
        """Quality for Pillow, 1 to 100. OpenAI's default is 100."""
        return max(1, 100 if self.output_compression is None else self.output_compression)

    def wanted(self) -> GenerateRequest:
        """Convert to this service's request. Raises Refused."""
        return GenerateRequest.model_validate(self._common())

    def forget_pictures(self) -> None:
        """Drop the pictures once `wanted` has copied them, because this object lives as long as the job."""

    def _common(self) -> dict[str, Any]:
        names = {"prompt", "model", "negative", "steps", "seed", "cfg_scale", "sampler", "speed", "background", "loras"}
        width, height = self._sides()
        more = {"n": 1 if self.n is None else self.n, "width": width, "height": height}
        return self.model_dump(include=names) | more | ({"preview": "auto"} if self.partial_images else {})

    def _sides(self) -> tuple[int | None, int | None]:
        """Width and height from `size` or the extra fields. Raises Refused."""
        if self.size is None or self.size == "auto":
            return self.width, self.height
        matched = SIZE.fullmatch(self.size)
        if matched is None:
            detail = f"size is {self.size[:40]!r}; it must be auto, or WIDTHxHEIGHT as in 256x256."
            raise wrong("size", "invalid_value", detail)
        sides = int(matched[1]), int(matched[2])
        if (self.width or sides[0], self.height or sides[1]) != sides:
            raise wrong("size", "invalid_value", "The body has a size, and another width or height. Send one of them.")
        return sides


class ImagesEditRequest(ImagesRequest):
    """The same for an edit: pictures as ids, data URLs or base64."""

    images: Annotated[list[Picture], Field(min_length=1, fail_fast=True)]
    mask: Picture | None = None
    strength: float | None = None
    fit: Literal["contain", "cover", "stretch"] = "contain"

    def wanted(self) -> EditRequest:
        """Convert to this service's request. Raises Refused."""
        more = {"images": self.images, "mask": self.mask, "fit": self.fit, "strength": self.strength}
        return EditRequest.model_validate(self._common() | more)

    def forget_pictures(self) -> None:
        self.images, self.mask = [], None


class ImagesVariationRequest(ImagesEditRequest):
    """The same for variations of one picture. OpenAI's have no prompt."""

    images: Annotated[list[Picture], Field(min_length=1, max_length=1, fail_fast=True)]
    prompt: StrictStr = VARIATION_PROMPT


R = TypeVar("R", bound=ImagesRequest)


async def read_generation(request: Request) -> ImagesRequest:
    """Read the body of /v1/images/generations. Unless strict, a body with pictures is an edit. Raises Refused."""
    fields, strict = await read_object(request), _strict(request)
    if strict:
        return _read(ImagesRequest, fields, strict)
    if any(fields.get(name) not in EMPTY for name in PICTURES):
        return _read(ImagesEditRequest, _with_pictures(fields, own_urls(request), PICTURES, as_data_url), strict)
    fields = {name: value for name, value in fields.items() if name not in PICTURES}
    if fields.pop("mask", None) not in EMPTY:
        raise wrong("mask", "invalid_value", "A mask is for an edit: send the picture too, or leave the mask out.")
    return _read(ImagesRequest, fields, strict)


async def read_edit(request: Request) -> ImagesEditRequest:
    """Read the body of /v1/images/edits, JSON or a form. Raises Refused."""
    return await _read_pictures(request, ImagesEditRequest)


async def read_variation(request: Request) -> ImagesVariationRequest:
    """Read the body of /v1/images/variations, JSON or a form. Raises Refused."""
    return await _read_pictures(request, ImagesVariationRequest)


async def _read_pictures(request: Request, model: type[R]) -> R:
    strict = _strict(request)
    if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        return _read(model, await _form(request, *_reading(strict, STRICT_PICTURES)), strict)
    fields = await read_object(request)
    fields = _with_pictures(fields, own_urls(request), *_reading(strict, ("image", "images")))
    return _read(model, fields, strict)


def _reading(strict: bool, names: tuple[str, ...]) -> tuple[tuple[str, ...], Callable[[str], str]]:
    """The accepted field names of pictures (`names` if strict), and the function that reads their text."""
    return (names, str) if strict else (PICTURES, as_data_url)


def _strict(request: Request) -> bool:
    return app_of(request).settings.strict_openai


def _with_pictures(
    fields: dict[str, Any], bases: Sequence[str], names: Sequence[str], text: Callable[[str], str]
) -> dict[str, Any]:
    """Move all pictures of a JSON body to `images`. Raises Refused."""
    given = [name for name in names if fields.get(name) not in EMPTY]
    if len(given) > 1:
        several = " and ".join(given[:2])
        raise wrong(given[0], "invalid_value", f"The body has both {several}. Put all pictures into images.")
    pictures = fields[given[0]] if given else []
    left = {name: value for name, value in fields.items() if name not in names}
    left["images"] = [_reference(one, bases, text) for one in (pictures if isinstance(pictures, list) else [pictures])]
    if left.get("mask") is not None:
        left["mask"] = _reference(left["mask"], bases, text)
    return left


async def _form(request: Request, names: Sequence[str], text: Callable[[str], str]) -> dict[str, Any]:
    fields: dict[str, Any] = {"images": []}
    form = await read_form(request)
    bases = own_urls(request)
    for name, value in form.multi_items():
        if name in names:
            fields["images"].append(_reference(await picture(value), bases, text))
        elif name == "mask":
            fields["mask"] = _reference(await picture(value), bases, text)
        else:
            given = (value.filename or "a file") if isinstance(value, UploadFile) else value
            fields[name] = json_text(given) if name == "loras" and given else given
    await form.close()  # free the files now: the request lasts as long as its job
    return fields


def _reference(value: Any, bases: Sequence[str], text: Callable[[str], str]) -> Any:
    """Read a picture in JSON: OpenAI's `{"image_url": …}`, base64, an id, a data URL, or a URL of this service.

    Returns a form's file unchanged. Raises Refused for other URLs and types.
    """
    if isinstance(value, bytes):
        return value
    url = value.get("image_url") if isinstance(value, Mapping) else value
    if isinstance(url, Mapping):  # as in OpenAI's chat messages
        url = url.get("url")
    if not isinstance(url, str):
        detail = 'A picture in JSON is {"image_url": "data:image/png;base64,…"}; there are no file_ids here.'
        raise wrong("image", "invalid_value", detail)
    if url.startswith(("http://", "https://")):
        paths = [url.removeprefix(base) for base in bases if url.startswith(f"{base}/")]
        own = next((found for path in paths if (found := OWN_PICTURE.fullmatch(path))), None)
        if own is None:
            raise wrong("image", "invalid_value", "Pictures of other sites are not fetched; send the file itself.")
        return own[1]
    return text(url)


def _read(model: type[R], fields: dict[str, Any], strict: bool) -> R:
    left, warnings = settled(fields, model.model_fields, strict)
    if left.get("images") == []:
        raise wrong("image", "missing_required_parameter", "Missing required parameter: 'image'.")
    try:
        read = model.model_validate(left)
    except ValidationError as error:
        raise _invalid(error) from None
    if read.output_compression not in {None, 100} and (read.format == "png" or read.response_format == "url"):
        why = "It is for jpeg and webp pictures that come as b64_json."
        if strict:
            raise wrong("output_compression", "unsupported_value", f"output_compression is not possible here. {why}")
        warnings.append(hints.without_effect("output_compression", read.output_compression, why))
    if read.background == "transparent" and read.format == "jpeg":
        why = "A JPEG cannot be transparent: choose png or webp as output_format."
        raise wrong("background", "unsupported_value", why)
    if read.partial_images and not read.stream:
        why = "Partial pictures come with stream=true."
        if strict:
            raise wrong("partial_images", "unsupported_value", f"partial_images is not possible here. {why}")
        warnings.append(hints.without_effect("partial_images", read.partial_images, why))
        read.partial_images = None
    if read.stream and read.response_format == "url":
        why = "A stream carries the pictures themselves: leave response_format out, or do not stream."
        raise wrong("response_format", "unsupported_value", why)
    if read.model in URLS_BY_DEFAULT and read.response_format is None and not read.stream:
        read.response_format = "url"
    read.warnings.extend(warnings)
    return read


def _invalid(error: ValidationError) -> Refused:
    """The first validation error, in OpenAI's wording."""
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][0])[:64] if first["loc"] else None
    match first["type"]:
        case "extra_forbidden":
            return wrong(name, "unknown_parameter", f"Unknown parameter: '{name}'.")
        case "missing":
            return wrong(name, "missing_required_parameter", f"Missing required parameter: '{name}'.")
        case _:
            return wrong(name, "invalid_value", f"{name}: {first['msg']}.")

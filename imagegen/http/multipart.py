"""multipart/form-data requests, as curl -F and browsers send them."""

from __future__ import annotations

import re
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from imagegen.http.body import M, encoding_of, read_bytes, read_json, repeated
from imagegen.http.problems import given_twice, invalid, unknown_fields
from imagegen.requests import EditRequest, Picture, UpscaleRequest, VariationRequest
from imagegen.schemas import Refused

WHOLE = {"width", "height", "steps", "seed", "n", "preview", "factor"}
FRACTIONS = {"cfg_scale", "lease_s", "strength"}
TRUTHS = {"draft": {"true": True, "false": False}}
PICTURES = {"image", "image[]", "images", "images[]"}
PLAIN_TRANSFER = {"", "7bit", "8bit", "binary"}
MOST_FILES, MOST_FIELDS = 20, 40
MultiPartParser.spool_max_size = 2**40
"""Starlette would write larger files to a second temporary file in /tmp. `spool` limits what is in memory."""
_WHOLE = re.compile(r"-?[0-9]{1,18}")
_FRACTION = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?([eE][-+]?[0-9]{1,3})?")


async def read_form(request: Request) -> FormData:
    """Read the form: at most MOST_FILES files and MOST_FIELDS fields. Only picture fields may repeat.

    Raises Refused 422 for a malformed form or a repeated name, 415 for an encoded file.
    """
    try:
        form = await request.form(max_files=MOST_FILES, max_fields=MOST_FIELDS)
    except (HTTPException, MultiPartException) as error:  # Starlette converts the second to the first
        detail = error.detail if isinstance(error, HTTPException) else error.message
        raise Refused(422, "invalid_request", f"The form cannot be read: {detail}") from None
    names = [name for name, _ in form.multi_items()]
    if twice := [name for name in repeated(names) if name not in PICTURES]:
        raise given_twice(twice, "form")
    for name, value in form.multi_items():
        if isinstance(value, UploadFile) and (encoding := _part_encoding(value)):
            detail = f"The form's part {name[:64]!r} is encoded ({encoding[:64]}); send the file as it is."
            raise Refused(415, "unsupported_media_type", detail)
    return form


def _part_encoding(file: UploadFile) -> str | None:
    """The part's encoding, which Starlette does not decode. RFC 7578, 4.7, deprecates Content-Transfer-Encoding, but
    old clients send it."""
    transfer = file.headers.get("content-transfer-encoding", "").strip()
    return encoding_of(file.headers) or (transfer if transfer.lower() not in PLAIN_TRANSFER else None)


async def read_upload(request: Request) -> bytes:
    """Read a picture that is the body itself (Content-Type: image/…), or the form field `image`. Raises Refused."""
    if _is_form(request):
        form = await read_form(request)
        if unknown := [name for name in form if name != "image"]:
            raise unknown_fields(unknown)
        files = form.getlist("image")
        if len(files) != 1 or not isinstance(files[0], UploadFile):
            raise Refused(422, "invalid_request", "Send one picture, as the form's file field named image.")
        data = await files[0].read()
        await form.close()
        return data
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind.startswith("image/") or kind == "application/octet-stream":
        return await read_bytes(request)
    raise Refused(415, "unsupported_media_type", "Send the picture itself (Content-Type: image/png), or a form.")


async def read_edit(request: Request) -> EditRequest:
    """Read an edit request, as JSON or as a form. Raises Refused."""
    if not _is_form(request):
        return await read_json(request, EditRequest)
    return _validated(EditRequest, await _read_fields(request))


async def read_variation(request: Request) -> VariationRequest:
    """Read a request for variations, as JSON or as a form. Raises Refused."""
    return await _read_of_one_picture(request, VariationRequest)


async def read_upscale(request: Request) -> UpscaleRequest:
    """Read an upscale request, as JSON or as a form. Raises Refused."""
    return await _read_of_one_picture(request, UpscaleRequest)


async def _read_of_one_picture(request: Request, model: type[M]) -> M:
    if not _is_form(request):
        return await read_json(request, model)
    fields = await _read_fields(request)
    images = fields.pop("images")
    if len(images) > 1:
        raise given_twice(["image"], "form")
    return _validated(model, fields | ({"image": images[0]} if images else {}))


def _is_form(request: Request) -> bool:
    return request.headers.get("content-type", "").lower().startswith("multipart/form-data")


def _validated(model: type[M], fields: dict[str, Any]) -> M:
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise invalid(error) from None


async def _read_fields(request: Request) -> dict[str, Any]:
    """The fields of a form: `image` files or ids as the list `images`, the others as text. Raises Refused."""
    form = await read_form(request)
    fields: dict[str, Any] = {"images": []}
    for name, value in form.multi_items():
        if name in PICTURES:
            fields["images"].append(await picture(value))
        elif name == "mask":
            fields["mask"] = await picture(value)
        else:
            _add_text(fields, name, value)
    await form.close()  # free the files now: a blocking request lasts as long as its job
    return fields


def _add_text(fields: dict[str, Any], name: str, value: UploadFile | str) -> None:
    """Add a form's field that is no picture. Raises Refused 422 for a file."""
    if isinstance(value, UploadFile):
        raise Refused(422, "invalid_request", f"{name[:64]!r} is a file; only image and mask may be.")
    if name in {"webhook.url", "webhook.secret"}:
        webhook = fields.setdefault("webhook", {})
        if isinstance(webhook, dict):  # else `webhook` came too, as text, which validation refuses
            webhook[name.removeprefix("webhook.")] = value
    elif name == "loras":
        fields[name] = json_text(value)
    else:
        fields[name] = number(name, value)


async def picture(value: UploadFile | str) -> Picture:
    """A form's picture as EditRequest accepts it: the file's bytes, or an id or a data URL."""
    return value if isinstance(value, str) else await value.read()


def json_text(text: str) -> Any:
    """Parse a form field that holds JSON; return other text for validation to refuse."""
    try:
        return from_json(text, allow_inf_nan=False)
    except (ValueError, RecursionError):
        return text


def number(name: str, text: str) -> Any:
    """Convert a form field's text to a number or boolean; return other text for validation to refuse."""
    if name in WHOLE and _WHOLE.fullmatch(text):
        return int(text)
    if name in FRACTIONS and _FRACTION.fullmatch(text):
        return float(text)
    return TRUTHS.get(name, {}).get(text, text)

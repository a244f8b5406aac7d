"""Pictures of a request: the same pixels, warnings and key whether they come as a file, a data URL or an id."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageCms
from refusals import data_url_of
from sent_pictures import (
    FIELDS,
    PICTURES,
    Send,
    admission,
    answered,
    data_url,
    saved,
    upload,
    upload_in_a_form,
)
from starlette.applications import Starlette
from starlette.testclient import TestClient
from state_folder import opened, scenario

from imagegen.admission import pictures
from imagegen.requests import EditRequest
from imagegen.schemas import Refused


def edit_of_json(path: str) -> Send:
    return lambda desk, data: answered(desk.post(path, json=FIELDS | {"images": [data_url(data)]}))


def edit_of_form(path: str) -> Send:
    return lambda desk, data: answered(desk.post(path, data=FIELDS, files={"image": ("a.png", data)}))


def edit_of_id(path: str) -> Send:
    return lambda desk, data: answered(desk.post(path, json=FIELDS | {"images": [upload(desk, data)["id"]]}))


def edit_of_id_in_a_form(path: str) -> Send:
    return lambda desk, data: answered(desk.post(path, data=FIELDS, files={"image": (None, upload(desk, data)["id"])}))


WAYS: dict[str, Send] = {
    "upload": upload,
    "upload in a form": upload_in_a_form,
    "edit, data URL": edit_of_json("/api/edit"),
    "edit, form": edit_of_form("/api/edit"),
    "edit, id": edit_of_id("/api/edit"),
    "edit, id in a form": edit_of_id_in_a_form("/api/edit"),
    "task, data URL": edit_of_json("/edit/submit"),
    "task, form": edit_of_form("/edit/submit"),
    "task, id": edit_of_id("/edit/submit"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("codes", "data"), PICTURES, ids=["+".join(codes) or "none" for codes, _ in PICTURES])
def test_each_warning_of_a_picture_comes_by_each_way(
    desk: TestClient, way: str, codes: tuple[str, ...], data: bytes
) -> None:
    warnings = WAYS[way](desk, data)["warnings"]
    assert tuple(sorted(one["code"] for one in warnings)) == codes
    assert warnings == edit_of_form("/api/edit")(desk, data)["warnings"], "word for word"


def turned() -> bytes:
    """Different in every corner, to be turned by a quarter."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(Image.linear_gradient("L").resize((48, 32)), "JPEG", exif=exif, icc_profile=b"not a profile")


KINDS = {
    "transparent": saved(Image.merge("RGBA", [Image.linear_gradient("L")] * 4), "PNG"),
    "palette": saved(Image.radial_gradient("L").convert("RGB").quantize(64), "PNG", transparency=7),
    "16 bits": saved(Image.linear_gradient("L").convert("I").point(lambda level: level * 257).convert("I;16"), "PNG"),
    "grey, transparent": saved(Image.merge("LA", [Image.linear_gradient("L")] * 2), "PNG"),
    "one bit": saved(Image.radial_gradient("L").convert("1"), "PNG"),
    "a profile": saved(
        Image.radial_gradient("L").convert("RGB"),
        "PNG",
        icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
    ),
    "turned": turned(),
    "CMYK": saved(Image.merge("CMYK", [Image.radial_gradient("L")] * 4), "TIFF"),
    "palette, transparent": saved(Image.radial_gradient("L").convert("RGB").quantize(64).convert("PA"), "TIFF"),
    "16 bits, big-endian": saved(
        Image.linear_gradient("L").convert("I").point(lambda level: level * 257).convert("I;16B"), "TIFF"
    ),
    "reduced": saved(Image.radial_gradient("L").resize((2100, 2100)), "PNG"),
}


def stored(desk: TestClient, answer: dict[str, Any]) -> bytes:
    """The file of the picture of an upload, or of the first reference of a job or task."""
    assert isinstance(desk.app, Starlette)
    if "task_id" in answer:
        answer = answered(desk.get(f"/api/jobs/{answer['task_id']}"))
    name = answer["references"][0] if "references" in answer else answer["id"]
    file: Path = desk.app.state.pictures / f"{name}.png"
    return file.read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_has_the_same_pixels_by_each_way(desk: TestClient, kind: str) -> None:
    by_each = {way: stored(desk, send(desk, KINDS[kind])) for way, send in WAYS.items()}
    assert {way for way, file in by_each.items() if file != by_each["upload"]} == set()
    assert len(Image.open(io.BytesIO(by_each["upload"])).getcolors(2**24) or ()) > 1


GREY = Image.linear_gradient("L")
REFUSED = {
    "32 bits": (saved(GREY.convert("I"), "TIFF"), "signed or floating-point numbers"),
    "floating point": (saved(GREY.convert("F"), "TIFF"), "signed or floating-point numbers"),
    "LAB": (saved(Image.merge("LAB", [GREY] * 3), "TIFF"), "colours other than grey, RGB and CMYK"),
    "YCbCr": (saved(Image.merge("YCbCr", [GREY] * 3), "TIFF"), "colours other than grey, RGB and CMYK"),
}
"""Pixels that Pillow opens, but whose levels or colours it does not turn into a picture faithfully."""


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_decoded_faithfully_is_refused_by_each_way(desk: TestClient, kind: str) -> None:
    data, said = REFUSED[kind]
    by_each = [
        desk.post("/api/images", content=data, headers={"content-type": "image/tiff"}),
        desk.post("/api/images", files={"image": ("a.tif", data)}),
        desk.post("/api/edit", json=FIELDS | {"images": [data_url(data)]}),
        desk.post("/api/edit", data=FIELDS, files={"image": ("a.tif", data)}),
        desk.post("/edit/submit", json=FIELDS | {"images": [data_url(data)]}),
        desk.post("/edit/submit", data=FIELDS, files={"image": ("a.tif", data)}),
    ]
    details = {(answer.status_code, answer.json()["code"], answer.json()["detail"]) for answer in by_each}
    assert details == {(422, "bad_image", f"The file is TIFF with {said}: export it as PNG.")}


def test_the_warnings_of_every_picture_are_told_in_order(desk: TestClient) -> None:
    urls = [data_url(data) for _, data in PICTURES[1:4]]
    ids = [upload(desk, data)["id"] for _, data in PICTURES[1:4]]
    told = [answered(desk.post("/api/edit", json=FIELDS | {"images": some}))["warnings"] for some in (urls, ids)]
    expected = ["transparency_on_white", "first_frame_only", "reference_reduced"]
    assert [[one["code"] for one in warnings] for warnings in told] == [expected] * 2


@scenario
async def test_a_file_is_read_as_it_is_and_never_as_base64(folder: Path) -> None:
    with pytest.MonkeyPatch.context() as without:
        without.delattr(pictures, "parse_data_url")
        await _admit_files(folder)


async def _admit_files(folder: Path) -> None:
    async with opened(folder) as state:
        files = EditRequest(prompt="a", images=[PICTURES[0][1]], mask=PICTURES[0][1])
        job = await admission(state).admit(files, idempotency_key="k")
        assert state.files() == sorted([*job.references, job.mask])
        with pytest.raises(Refused, match="empty"):
            await admission(state).admit(EditRequest(prompt="a", images=[b""]))


@scenario
async def test_one_key_means_one_picture_however_it_is_sent(folder: Path) -> None:
    red, url = PICTURES[0][1], data_url(PICTURES[0][1])
    async with opened(folder) as state:
        desk = admission(state)
        job = await desk.admit(EditRequest(prompt="a", images=[red], mask=url), idempotency_key="k")
        jpeg = url.replace("image/png", "image/jpeg")  # the type in a data URL says nothing here
        for images_, mask in (([url], red), ([jpeg], url)):
            again = await desk.admit(EditRequest(prompt="a", images=images_, mask=mask), idempotency_key="k")
            assert again.id == job.id
        for images_, mask in (
            ([red, red], red),
            ([data_url_of("BMP")], red),
            ([job.references[0]], red),
            ([red], None),
        ):
            with pytest.raises(Refused) as refused:
                await desk.admit(EditRequest(prompt="a", images=images_, mask=mask), idempotency_key="k")
            assert refused.value.code == "idempotency_conflict"


def test_json_has_no_bytes_and_the_schema_says_text() -> None:
    properties = EditRequest.model_json_schema()["properties"]
    assert properties["images"]["items"] == {"type": "string"}
    body = json.dumps({"prompt": "a", "images": ["x"], "mask": "y"})
    read = EditRequest.model_validate_json(body)
    assert (read.images, read.mask) == (["x"], "y")
    for wrong in (1, None, ["x"], {"a": "b"}):
        with pytest.raises(ValueError, match=r"images\.0"):
            EditRequest.model_validate({"prompt": "a", "images": [wrong]})

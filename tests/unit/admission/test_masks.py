"""Masks of a request: the same pixels and warnings whichever way they come; drawn transparent pictures as masks."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms
from sent_pictures import (
    FIELDS,
    GREEN,
    PICTURES,
    RED,
    answered,
    data_url,
    saved,
    upload,
    upload_in_a_form,
)
from starlette.testclient import TestClient

from imagegen.images.cutout import REMOVED
from imagegen.images.store import ImageStore


def test_a_masks_warnings_come_by_each_way(desk: TestClient) -> None:
    mask = saved(RED.convert("L"), "GIF", save_all=True, append_images=[GREEN.convert("L")])
    stored = upload(desk, mask)["id"]
    by_form = desk.post("/api/edit", data=FIELDS, files={"image": ("a.png", PICTURES[0][1]), "mask": ("m.gif", mask)})
    told = [answered(by_form)["warnings"]]
    for one in (data_url(mask), stored):
        request = FIELDS | {"images": [data_url(PICTURES[0][1])], "mask": one}
        told.append(answered(desk.post("/api/edit", json=request))["warnings"])
    assert [[one["code"] for one in warnings] for warnings in told] == [["first_frame_only"]] * 3


def hole(width: int, height: int, mode: str = "RGBA") -> Image.Image:
    """A light picture that becomes transparent from left to right."""
    image = Image.new("RGBA", (width, height), (200, 220, 90, 255))
    image.putalpha(Image.linear_gradient("L").rotate(90).resize((width, height)))
    return image.convert(mode)


def turned() -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # stored on its side
    return saved(hole(64, 32), "PNG", exif=exif)


GREY = Image.linear_gradient("L").resize((32, 32))
COLOURS = Image.merge("RGB", (GREY, GREY.rotate(90), GREY.rotate(180)))
XYZ = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
MASKS: dict[str, bytes] = {
    "black and white": saved(GREY.convert("1"), "PNG"),
    "grey": saved(GREY, "PNG"),
    "grey of 16 bits": saved(Image.fromarray(np.asarray(GREY).astype(np.uint16) * 257), "PNG"),
    "colours": saved(COLOURS, "PNG"),
    "colours, JPEG": saved(COLOURS, "JPEG"),
    "transparency": saved(hole(32, 32), "PNG"),
    "transparency of grey": saved(hole(32, 32, "LA"), "PNG"),
    "transparency, WebP": saved(hole(32, 32), "WEBP"),
    "transparency of a palette": saved(GREY.convert("P"), "GIF", transparency=0),
    "transparency, turned": turned(),
    "transparency, large": saved(hole(2100, 2100), "PNG"),
    "grey, large": saved(GREY.resize((2100, 2100)), "PNG"),
    "a profile that is of no use": saved(hole(32, 32), "PNG", icc_profile=XYZ),
}


def mask_in_json(desk: TestClient, source: str, mask: str) -> dict[str, Any]:
    return answered(desk.post("/api/edit", json=FIELDS | {"images": [source], "mask": mask}))


def mask_in_a_form(desk: TestClient, source: str, mask: bytes | str) -> dict[str, Any]:
    part = (None, mask) if isinstance(mask, str) else ("m.png", mask)
    return answered(desk.post("/api/edit", data=FIELDS | {"image": source}, files={"mask": part}))


def id_of_reference(desk: TestClient, source: str) -> str:
    return str(mask_in_json(desk, source, source)["references"][0])


MASK_WAYS: dict[str, Callable[[TestClient, str, bytes], dict[str, Any]]] = {
    "form": mask_in_a_form,
    "data URL": lambda desk, source, mask: mask_in_json(desk, source, data_url(mask)),
    "data URL in a form": lambda desk, source, mask: mask_in_a_form(desk, source, data_url(mask)),
    "id": lambda desk, source, mask: mask_in_json(desk, source, upload(desk, mask)["id"]),
    "id in a form": lambda desk, source, mask: mask_in_a_form(desk, source, upload(desk, mask)["id"]),
    "id of an upload in a form": lambda desk, source, mask: mask_in_json(
        desk, source, upload_in_a_form(desk, mask)["id"]
    ),
    "id of a job's reference": lambda desk, source, mask: mask_in_json(
        desk, source, id_of_reference(desk, data_url(mask))
    ),
}


def mask_of(desk: TestClient, job_id: str) -> np.ndarray:
    job = desk.portal.call(desk.app.state.app.jobs.get, job_id)
    return np.asarray(Image.open(io.BytesIO(desk.get(f"/images/{job.mask}.png").content)))


@pytest.mark.parametrize("name", MASKS)
def test_a_mask_is_the_same_pixels_by_each_way(desk: TestClient, name: str) -> None:
    mask = MASKS[name]
    source = data_url(turned() if "turned" in name else PICTURES[0][1])
    jobs_ = {way: send(desk, source, mask) for way, send in MASK_WAYS.items()}
    drawn = {way: mask_of(desk, job["job_id"]) for way, job in jobs_.items()}
    for way, pixels in drawn.items():
        assert np.array_equal(pixels, drawn["form"]), way
        assert jobs_[way]["warnings"] == jobs_["form"]["warnings"], way
    assert drawn["form"].min() < drawn["form"].max(), "the table has no mask of one colour"


def test_a_mask_by_its_id_keeps_its_transparency(desk: TestClient) -> None:
    clear = Image.new("RGBA", (32, 32), (255, 255, 255, 255))
    clear.paste((255, 255, 255, 0), (8, 0, 32, 32))
    clear.paste((255, 255, 255, 55), (24, 0, 32, 32))
    sent = mask_in_json(desk, data_url(PICTURES[0][1]), upload(desk, saved(clear, "PNG"))["id"])
    pixels = mask_of(desk, sent["job_id"])
    assert pixels.shape == (32, 32, 3)
    assert [pixels[5, x].tolist() for x in (0, 7, 8, 23, 24)] == [[one] * 3 for one in (0, 0, 255, 255, 200)]


def drawn_transparent(desk: TestClient) -> tuple[str, bytes]:
    """The id and the file of a drawn picture whose background was cut out."""
    half = Image.new("RGBA", (32, 32), (200, 30, 30, 255))
    half.paste((255, 255, 255, 0), (16, 0, 32, 32))
    half.paste((200, 30, 30, 99), (14, 0, 16, 32))
    png = saved(half, "PNG")
    pictures: ImageStore = desk.app.state.app.images
    job_id = answered(desk.post("/api/generate", json={"prompt": "an icon", "steps": 1}))["job_id"]

    async def store() -> str:
        more = {"sha256": hashlib.sha256(png).hexdigest(), "seed": 1, "index": 0, "warnings": (REMOVED,)}
        image = await pictures.write(png, width=32, height=32, **more)
        async with pictures._database.writing() as connection:
            await pictures.insert(connection, [image], expires_at=2e9, job_id=job_id)
        return image.id

    return desk.portal.call(store), png


def test_a_drawn_transparent_picture_is_a_source_as_its_file_is(desk: TestClient) -> None:
    image_id, png = drawn_transparent(desk)
    assert desk.get(f"/images/{image_id}.png").content == png
    red = data_url(PICTURES[0][1])
    for body in ({"images": [image_id]}, {"images": [data_url(png)]}):
        job = answered(desk.post("/api/edit", json=FIELDS | body))
        assert [one["code"] for one in job["warnings"]] == ["transparency_on_white"]
    larger = answered(desk.post("/api/upscale", json={"image": image_id, "factor": 2, "model": "lanczos"}))
    assert larger["warnings"] == [], "a larger copy keeps the transparency"
    masks = [mask_in_json(desk, red, mask) for mask in (image_id, data_url(png))]
    by_id, by_file = (mask_of(desk, job["job_id"]) for job in masks)
    assert np.array_equal(by_id, by_file)
    assert [by_id[5, x, 0] for x in (0, 15, 20)] == [0, 156, 255], "what is transparent may change"
    assert [job["warnings"] for job in masks] == [[], []]

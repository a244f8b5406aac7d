"""Pictures of a request: the same pixels, warnings and key whether they come as a file, a data URL or an id."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms
from refusals import data_url_of
from starlette.applications import Starlette
from starlette.testclient import TestClient
from state_folder import NothingKnown, State, opened, scenario

from imagegen.admission import pictures
from imagegen.admission.controller import AdmissionController
from imagegen.http.problems import HANDLERS
from imagegen.http.routes import images, jobs, tasks
from imagegen.images.conversions import Conversions
from imagegen.images.cutout import REMOVED
from imagegen.images.files import ImageFiles
from imagegen.images.store import ImageStore
from imagegen.jobs.durations import Durations
from imagegen.models.catalog import Catalog
from imagegen.models.loras.folder import LoraFolder
from imagegen.prompts.guardrails import Guardrails
from imagegen.requests import EditRequest
from imagegen.schemas import Refused
from imagegen.settings import Settings


def admission(state: State) -> AdmissionController:
    chosen = Settings(home=state.folder)
    return AdmissionController(
        chosen,
        Catalog.load(chosen),
        Guardrails.load(None),
        state.images,
        state.jobs,
        Durations(),
        "tiny",
        NothingKnown(),
        LoraFolder(chosen),
    )


def saved(image: Image.Image, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def data_url(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


RED, GREEN = Image.new("RGB", (32, 32), "red"), Image.new("RGB", (32, 32), "green")
LARGE = Image.new("RGBA", (2100, 2100), (255, 0, 0, 0))  # more than admission keeps
PICTURES: list[tuple[tuple[str, ...], bytes]] = [
    ((), saved(RED, "PNG")),
    (("transparency_on_white",), saved(Image.new("RGBA", (32, 32), (255, 0, 0, 99)), "PNG")),
    (("first_frame_only",), saved(RED, "GIF", save_all=True, append_images=[GREEN])),
    (("reference_reduced",), saved(LARGE.convert("L"), "PNG")),
    (("colour_profile_dropped",), saved(RED, "PNG", icc_profile=b"not a profile")),
    (
        ("colour_profile_dropped", "first_frame_only", "reference_reduced", "transparency_on_white"),
        saved(LARGE, "PNG", save_all=True, append_images=[LARGE.rotate(9)], icc_profile=b"not a profile"),
    ),
]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """The routes of jobs, pictures and tasks over a real admission and queue, and no worker: what is accepted waits."""
    folder = tmp_path_factory.mktemp("desk")
    app = Starlette(routes=[*jobs.ROUTES, *images.ROUTES, *tasks.ROUTES], exception_handlers=HANDLERS)
    with TestClient(app, raise_server_exceptions=False) as client:
        stack = AsyncExitStack()
        state = client.portal.call(stack.enter_async_context, opened(folder, max_queue=100_000))
        estimator = SimpleNamespace(eta_s=lambda _job: None)
        app.state.app = SimpleNamespace(
            admission=admission(state),
            jobs=state.jobs,
            images=state.images,
            estimator=estimator,
            conversions=Conversions(state.images, ImageFiles(state.folder / "images"), None),
        )
        app.state.pictures = folder / "images"
        yield client
        client.portal.call(stack.aclose)


FIELDS = {"prompt": "make it blue", "steps": 1}
Send = Callable[[TestClient, bytes], dict[str, Any]]


def answered(answer: Any) -> dict[str, Any]:
    assert answer.status_code in {200, 201, 202}, answer.text
    body: dict[str, Any] = answer.json()
    return body


def edit_of_json(path: str) -> Send:
    return lambda desk, data: answered(desk.post(path, json=FIELDS | {"images": [data_url(data)]}))


def edit_of_form(path: str) -> Send:
    return lambda desk, data: answered(desk.post(path, data=FIELDS, files={"image": ("a.png", data)}))


def edit_of_id(path: str) -> Send:
    return lambda desk, data: answered(desk.post(path, json=FIELDS | {"images": [upload(desk, data)["id"]]}))


def edit_of_id_in_a_form(path: str) -> Send:
    return lambda desk, data: answered(desk.post(path, data=FIELDS, files={"image": (None, upload(desk, data)["id"])}))


def upload(desk: TestClient, data: bytes) -> dict[str, Any]:
    return answered(desk.post("/api/images", content=data, headers={"content-type": "image/png"}))


def upload_in_a_form(desk: TestClient, data: bytes) -> dict[str, Any]:
    return answered(desk.post("/api/images", files={"image": ("a.png", data)}))


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

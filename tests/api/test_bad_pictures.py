"""Pictures of every kind through every route: converted and drawn from, or refused and nothing of them kept."""

from __future__ import annotations

import base64
import functools
import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image
from refusals import Answer, ask, peak_bytes, untouched
from served import Service

MIB = 2**20
RED, BLUE = (255, 0, 0), (0, 0, 255)
SMALL = {"prompt": "make it blue", "width": 64, "height": 64, "steps": 1, "seed": 1}


def halves(mode: str = "RGB", size: tuple[int, int] = (48, 32)) -> Image.Image:
    """The upper half red, the lower half blue."""
    image = Image.new("RGB", size, RED)
    image.paste(BLUE, (0, size[1] // 2, *size))
    return image.convert(mode)


def saved(image: Image.Image, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG by hand, for what Pillow does not write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    packed = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + packed


def sixteen_bits() -> bytes:
    red, blue = struct.pack(">HHH", 65_535, 0, 0), struct.pack(">HHH", 0, 0, 65_535)
    return png(48, 32, 16, 2, b"".join(b"\0" + (red if row < 16 else blue) * 48 for row in range(32)))


def turned() -> bytes:
    """Stored lying on its side; EXIF says to turn it upright."""
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    return saved(halves().transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)


def animated(format: str) -> bytes:
    green = Image.new("RGB", (48, 32), "green")
    options = {"lossless": True} if format == "WEBP" else {}
    return saved(halves(), format, save_all=True, append_images=[green, green], duration=50, **options)


GREY = (76, 76, 76), (29, 29, 29)
PICTURES: list[tuple[str, bytes, tuple[tuple[int, int, int], tuple[int, int, int]]]] = [
    ("16 bits a channel", sixteen_bits(), (RED, BLUE)),
    ("CMYK", saved(halves("CMYK"), "JPEG", quality=95), (RED, BLUE)),
    ("EXIF-rotated", turned(), (RED, BLUE)),
    ("WebP", saved(halves(), "WEBP", quality=95), (RED, BLUE)),
    ("grey", saved(halves("L"), "PNG"), GREY),
    ("animated GIF", animated("GIF"), (RED, BLUE)),
    ("animated WebP", animated("WEBP"), (RED, BLUE)),
    ("AVIF", saved(halves(), "AVIF", quality=95, subsampling="4:4:4"), (RED, BLUE)),
    ("TIFF", saved(halves(), "TIFF", compression="tiff_lzw"), (RED, BLUE)),
    ("TGA", saved(halves(), "TGA"), (RED, BLUE)),
    ("icon", saved(halves(), "ICO", sizes=[(48, 32)]), (RED, BLUE)),
    ("transparent", saved(Image.new("RGBA", (48, 32), (0, 0, 0, 0)), "PNG"), ((255, 255, 255), (255, 255, 255))),
]


def upload(service: Service, data: bytes) -> dict[str, Any]:
    answer = service.http.post("/api/images", content=data, headers={"content-type": "image/png"})
    assert answer.status_code == 201, answer.text
    return answer.json()


@pytest.mark.parametrize(("data", "colours"), [one[1:] for one in PICTURES], ids=[one[0] for one in PICTURES])
def test_a_picture_of_any_kind_is_kept_as_upright_rgb(
    service: Service, data: bytes, colours: tuple[tuple[int, int, int], ...]
) -> None:
    kept = upload(service, data)
    assert (kept["width"], kept["height"], kept["job_id"]) == (48, 32, None)
    image = Image.open(io.BytesIO(service.http.get(f"/images/{kept['id']}.png").content))
    assert (image.format, image.mode, image.size) == ("PNG", "RGB", (48, 32))
    for at, expected in zip(((24, 4), (24, 28)), colours, strict=True):
        found = image.getpixel(at)
        assert max(abs(a - b) for a, b in zip(found, expected, strict=True)) <= 12, (at, found)


@pytest.mark.parametrize("first", [0, 4, 8])
def test_every_kind_is_drawn_from(service: Service, first: int) -> None:
    """As data URLs and as stored pictures, four at a time: the engine itself takes PNG and JPEG in RGB alone."""
    chosen = [data for _name, data, _colours in PICTURES[first : first + 4]]
    urls = [data_url(data) for data in chosen[:2]]
    request = SMALL | {"images": [*urls, *(upload(service, data)["id"] for data in chosen[2:])]}
    answer = service.http.post("/api/edit", json=request)
    assert answer.status_code == 202, answer.text
    job = service.ended(answer.json()["job_id"])
    assert job["status"] == "complete", job
    assert len(job["references"]) == 4
    assert service.http.get(f"/images/{job['references'][0]}.png").status_code == 200, "what came with it is kept"


def data_url(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


# ---- refused --------------------------------------------------------------------------------------------------


@functools.cache
def bomb() -> bytes:
    """20,000 x 20,000 pixels of one bit: 50 MB in 50 kB, and 1.2 GB once it is RGB."""
    return png(20_000, 20_000, 1, 0, bytes((1 + 20_000 // 8) * 20_000))


@functools.cache
def line(height: int) -> bytes:
    """A picture of one pixel across."""
    return png(1, height, 8, 0, bytes(2 * height))


NO_PICTURES: list[tuple[str, Callable[[], bytes], str]] = [
    ("nothing", lambda: b"", "is empty"),
    ("text", lambda: b"hello", "is not a picture"),
    ("SVG", lambda: b'<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
    ("SVG in XML", lambda: b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "b">]><svg/>', "SVG"),
    ("HEIC", lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "The file is HEIC: export it as JPEG or PNG."),
    ("JPEG 2000", lambda: saved(halves(), "JPEG2000"), "The file is JPEG 2000: export it as PNG or JPEG."),
    ("TIFF with JPEG in it", lambda: saved(halves(), "TIFF", compression="jpeg"), "TIFF with JPEG compression"),
    ("half a PNG", lambda: saved(Image.effect_noise((64, 64), 50), "PNG")[:2000], "damaged or cut off"),
    ("a PNG without pixels", lambda: png(64, 64, 8, 2, b""), "damaged or cut off"),
    ("a bomb", bomb, "40000000 pixels"),
    ("a promise of 4 Gpx", lambda: png(65_535, 65_535, 8, 2, b"\0"), "40000000 pixels"),
    ("40 Mpx in a line", functools.partial(line, 40_000_000), "a side may have at most 16383 pixels"),
    ("4.2 Mpx in a line", functools.partial(line, 4_200_000), "a side may have at most 16383 pixels"),
    ("half a JPEG", lambda: saved(Image.effect_noise((64, 64), 50), "JPEG")[:900], "damaged or cut off"),
    ("HTML", lambda: b"<html><script>alert(1)</script></html>", "a web page"),
]

Send = Callable[[Service, bytes], Answer]


def as_body(service: Service, data: bytes) -> Answer:
    return ask(service, "POST", "/api/images", content=data, headers={"content-type": "image/png"})


def as_form(service: Service, data: bytes) -> Answer:
    return ask(service, "POST", "/api/images", files={"image": ("a.png", data, "image/png")})


def as_edit(service: Service, data: bytes) -> Answer:
    return ask(service, "POST", "/api/edit", json=SMALL | {"images": [data_url(data)]})


def as_second_of_an_edit(service: Service, data: bytes) -> Answer:
    good = data_url(saved(halves(), "PNG"))
    return ask(service, "POST", "/api/edit", json=SMALL | {"images": [good, data_url(data)]})


def as_openai_form(service: Service, data: bytes) -> Answer:
    return ask(service, "POST", "/v1/images/edits", data={"prompt": "make it blue"}, files={"image": ("a.png", data)})


def as_second_of_a_form(service: Service, data: bytes) -> Answer:
    files = [("image", ("a.png", saved(halves(), "PNG"), "image/png")), ("image", ("b.png", data, "image/png"))]
    return ask(service, "POST", "/api/edit", data={"prompt": "make it blue", "steps": "1"}, files=files)


@pytest.mark.parametrize("send", [as_body, as_form, as_edit, as_second_of_an_edit, as_second_of_a_form])
def test_what_is_no_picture_is_refused_and_nothing_is_kept(service: Service, send: Send) -> None:
    with untouched(service):
        for name, make, words in NO_PICTURES:
            data = make()
            with peak_bytes(service.worker) as grown:
                answer = send(service, data)
            assert (answer.status, answer.code) == (422, "bad_image"), name
            assert words in answer.detail, name
            assert grown() < 64 * MIB, name


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"model": "gpt"}, "unknown_model"),
        ({"steps": 100_000}, "invalid_request"),
        ({"mask": "0" * 32}, "unknown_image"),
        ({"lease_s": 1}, "invalid_request"),
        ({"width": 9999}, "size_out_of_range"),
    ],
)
def test_a_good_picture_of_a_bad_request_is_not_kept(service: Service, fields: dict[str, Any], code: str) -> None:
    good = data_url(saved(halves(), "PNG"))
    with untouched(service):
        answer = ask(service, "POST", "/api/edit", json=SMALL | {"images": [good, good]} | fields)
        assert (answer.status, answer.code) == (422, code)


def test_an_upload_damaged_on_the_disk_is_told_and_all_else_goes_on(service: Service) -> None:
    damaged, whole = upload(service, saved(halves(), "PNG")), upload(service, saved(halves(), "PNG"))
    file = service.home / "images" / f"{damaged['id']}.png"
    file.write_bytes(file.read_bytes()[:50])
    for suffix in ("png", "jpg", "webp?w=16"):
        answer = service.http.get(f"/images/{damaged['id']}.{suffix}")
        assert (answer.status_code, answer.json()["code"]) == (500, "image_damaged")
        assert "missing or damaged on the server's disk" in answer.json()["detail"]
    submitted = service.http.post("/api/edit", json=SMALL | {"images": [damaged["id"]]})
    job = service.ended(submitted.json()["job_id"])
    assert (job["status"], job["error"]["code"]) == ("failed", "image_damaged")
    assert service.http.get(f"/images/{whole['id']}.png").status_code == 200
    file.unlink()
    assert service.http.get(f"/images/{damaged['id']}.png").json()["code"] == "image_damaged"
    assert service.draw()["status"] == "complete"

"""Edits over HTTP on the real engine: masks, sizes, and every kind of picture file that people send."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from served import Service

from imagegen.cli.draw import edit as edit_command


def data_url(image: Image.Image, format: str = "PNG", **how: Any) -> str:
    file = io.BytesIO()
    image.save(file, format, **how)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def halves(width: int = 64, height: int = 64, left: str = "black", right: str = "white") -> Image.Image:
    image = Image.new("RGB", (width, height), left)
    image.paste(Image.new("RGB", (width // 2, height), right), (width // 2, 0))
    return image


def edit(service: Service, images: list[str], **fields: Any) -> dict[str, Any]:
    request = {"prompt": "make it blue", "images": images, "steps": 2, "seed": 1, "width": 64, "height": 64} | fields
    answer = service.http.post("/api/edit", json=request)
    assert answer.status_code == 202, answer.text
    job = service.ended(answer.json()["job_id"])
    assert job["status"] == "complete", job
    return job


def pixels(service: Service, job: dict[str, Any]) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(service.png(job))).convert("RGB")).astype(float)


def by_column(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """How much two pictures differ, by column."""
    return np.abs(one - other).mean(axis=(0, 2))


def test_strength_is_how_much_the_seed_can_change(service: Service) -> None:
    """The tiny model's autoencoder keeps no picture, but what begins almost without noise hardly needs a seed."""
    picture = data_url(halves(left="red", right="green"))
    drawn = {
        (strength, seed): pixels(service, edit(service, [picture], strength=strength, seed=seed))
        for strength in (0, 0.05, 1)
        for seed in (1, 2)
    }
    apart = {strength: np.abs(drawn[strength, 1] - drawn[strength, 2]).mean() for strength in (0, 0.05, 1)}
    assert apart[0] <= apart[0.05] < apart[1] / 2, apart
    again = pixels(service, edit(service, [picture], strength=0.05, seed=1))
    assert np.array_equal(again, drawn[0.05, 1])
    assert np.array_equal(pixels(service, edit(service, [picture], seed=1)), drawn[1, 1]), "1 is as none"


def test_only_the_white_of_the_mask_changes(service: Service) -> None:
    """What is black keeps the reference's latents: there, what the seed and the prompt say has no effect."""
    picture = data_url(halves(left="red", right="green"))
    one, other = (
        pixels(service, edit(service, [picture], mask=data_url(halves()), seed=seed, prompt=prompt))
        for seed, prompt in ((1, "make it blue"), (2, "a tree"))
    )
    free = [pixels(service, edit(service, [picture], seed=seed)) for seed in (1, 2)]
    masked = by_column(one, other)
    assert masked[:8].max() < masked[40:].mean() / 4, "the left half is black: it stays"
    assert masked[40:].mean() > 5, "the right half is white: it changes"
    assert by_column(*free)[:8].mean() > 4 * masked[:8].mean(), "without the mask the left half changes too"


def test_a_mask_with_transparency_is_read_as_openai_reads_it(service: Service) -> None:
    picture = data_url(halves(left="red", right="green"))
    mask = Image.new("RGBA", (64, 64), (9, 9, 9, 255))
    mask.paste((9, 9, 9, 0), (32, 0, 64, 64))
    transparent = pixels(service, edit(service, [picture], mask=data_url(mask)))
    white = pixels(service, edit(service, [picture], mask=data_url(halves())))
    assert np.array_equal(transparent, white)


def test_a_mask_that_cannot_be_used_is_refused(service: Service) -> None:
    picture = data_url(halves())
    other_shape = service.http.post(
        "/api/edit", json={"prompt": "x", "images": [picture], "mask": data_url(halves(128, 64))}
    )
    assert (other_shape.status_code, other_shape.json()["code"]) == (422, "bad_image")
    assert "128x64" in other_shape.json()["detail"]
    broken = service.http.post(
        "/api/edit", json={"prompt": "x", "images": [picture], "mask": "data:image/png;base64,AAAA"}
    )
    assert (broken.status_code, broken.json()["code"]) == (422, "bad_image")


def turned() -> tuple[Image.Image, dict[str, Any]]:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    return halves(64, 128), {"format": "JPEG", "exif": exif, "quality": 95}


def sixteen_bits() -> tuple[Image.Image, dict[str, Any]]:
    return Image.fromarray(np.linspace(0, 65535, 128 * 64, dtype=np.uint16).reshape(64, 128)), {"format": "PNG"}


def animated() -> tuple[Image.Image, dict[str, Any]]:
    return halves(128, 64), {"format": "GIF", "save_all": True, "append_images": [Image.new("RGB", (128, 64), "blue")]}


@pytest.mark.parametrize(
    ("picture", "warning"),
    [
        (turned(), None),
        ((Image.new("RGBA", (128, 64), (255, 0, 0, 99)), {"format": "PNG"}), "transparency_on_white"),
        ((halves(128, 64).convert("CMYK"), {"format": "JPEG"}), None),
        (sixteen_bits(), None),
        (animated(), "first_frame_only"),
    ],
    ids=["EXIF", "alpha", "CMYK", "16 bits", "animated"],
)
def test_every_kind_of_file_is_edited_in_its_own_shape(
    service: Service, picture: tuple[Image.Image, dict[str, Any]], warning: str | None
) -> None:
    """Each shows 128x64 pixels: the output has that shape, at the model's usual area of 128x128."""
    image, how = picture
    job = edit(service, [data_url(image, **how)], steps=1, width=None, height=None)
    assert (job["images"][0]["width"], job["images"][0]["height"]) == (176, 96)
    assert [one["code"] for one in job["warnings"]] == ([] if warning is None else [warning])
    assert pixels(service, job).shape == (96, 176, 3)


def as_file(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def test_a_mask_comes_as_a_form_and_through_openais_route_too(service: Service) -> None:
    picture, mask = halves(left="red", right="green"), halves()
    plain = pixels(service, edit(service, [data_url(picture)]))
    json_way = pixels(service, edit(service, [data_url(picture)], mask=data_url(mask)))
    assert not np.array_equal(plain, json_way)
    files = {"image": ("a.png", as_file(picture), "image/png"), "mask": ("m.png", as_file(mask), "image/png")}
    fields = {"prompt": "make it blue", "steps": "2", "seed": "1"}
    answer = service.http.post("/api/edit", data=fields | {"width": "64", "height": "64"}, files=files)
    assert answer.status_code == 202, answer.text
    assert np.array_equal(json_way, pixels(service, service.ended(answer.json()["job_id"])))
    answer = service.http.post("/v1/images/edits", data=fields | {"size": "64x64"}, files=files)
    assert answer.status_code == 200, answer.text
    drawn = Image.open(io.BytesIO(base64.b64decode(answer.json()["data"][0]["b64_json"]))).convert("RGB")
    assert np.array_equal(json_way, np.asarray(drawn))


@pytest.mark.parametrize(
    ("shape", "asked", "drawn", "warned"),
    [
        ((1200, 600), {"width": 128}, (128, 64), []),
        ((1200, 600), {"height": 128}, (256, 128), []),
        ((1200, 600), {"width": 128, "fit": "stretch"}, (128, 128), []),
        ((1200, 600), {"width": 128, "height": 128}, (128, 128), []),
        ((300, 60), {}, (320, 64), []),
        ((900, 60), {}, (512, 64), ["shape_not_kept"]),
        ((2000, 10), {}, (512, 64), ["shape_not_kept"]),
        ((2000, 10), {"width": 128}, (128, 64), ["shape_not_kept"]),
    ],
)
def test_the_size_that_is_left_open_follows_from_the_picture(
    service: Service, shape: tuple[int, int], asked: dict[str, Any], drawn: tuple[int, int], warned: list[str]
) -> None:
    picture = data_url(Image.new("RGB", shape, "red"))
    answer = service.http.post("/api/edit", json={"prompt": "x", "images": [picture], "steps": 1} | asked)
    assert answer.status_code == 202, answer.text
    job = answer.json()
    service.http.delete(f"/api/jobs/{job['job_id']}")
    assert (job["params"]["width"], job["params"]["height"]) == drawn
    assert [warning["code"] for warning in job["warnings"]] == warned


def on_the_command_line(service: Service, target: Path, *arguments: object) -> np.ndarray:
    """What `imagegen edit` draws, small."""
    small = ["-o", target, "--steps", "2", "--seed", "1", "--url", service.url]
    ran = CliRunner().invoke(edit_command, [str(word) for word in (*arguments, *small)])
    assert ran.exit_code == 0, ran.output
    return np.asarray(Image.open(target).convert("RGB")).astype(float)


def test_each_fit_draws_another_picture_by_each_way(service: Service, tmp_path: Path) -> None:
    """A slope of grey, twice as wide as high: stretched its ends are seen, cut to the middle they are not."""
    slope = Image.fromarray(np.tile(np.linspace(0, 255, 128, dtype=np.uint8), (64, 1))).convert("RGB")
    slope.save(tmp_path / "slope.png")
    drawn = {}
    for fit in ("contain", "cover", "stretch"):
        drawn[fit] = pixels(service, edit(service, [data_url(slope)], fit=fit))
        arguments = (tmp_path / "slope.png", "make it blue", "--fit", fit, "-W", 64, "-H", 64)
        assert np.array_equal(drawn[fit], on_the_command_line(service, tmp_path / "drawn.png", *arguments)), fit
    assert np.array_equal(drawn["contain"], pixels(service, edit(service, [data_url(slope)]))), "the default"
    for one, other in (("contain", "cover"), ("contain", "stretch"), ("cover", "stretch")):
        assert not np.array_equal(drawn[one], drawn[other]), (one, other)


def test_the_command_line_sends_several_pictures_and_one_side(service: Service, tmp_path: Path) -> None:
    first, second, third = (tmp_path / f"{name}.png" for name in ("first", "second", "third"))
    wide = halves(128, 64)
    wide.save(first)
    Image.new("RGB", (64, 64), "red").save(second)
    Image.new("RGB", (64, 64), "blue").save(third)
    shared = (first, "make it blue", "-W", 128)
    alone = on_the_command_line(service, tmp_path / "a.png", *shared)
    three = on_the_command_line(service, tmp_path / "b.png", *shared, "--also", second, "--also", third)
    assert alone.shape == three.shape == (64, 128, 3), "the other side follows"
    assert not np.array_equal(alone, three)
    urls = [data_url(Image.open(path)) for path in (first, second, third)]
    assert np.array_equal(three, pixels(service, edit(service, urls, width=128)))
    most = service.http.get("/api/models").json()["caps"]["max_references"]
    too_many = [str(word) for also in range(most) for word in ("--also", second)]
    ran = CliRunner().invoke(edit_command, [str(first), "x", *too_many, "--url", service.url])
    assert ran.exit_code == 1 and f"at most {most} are taken" in str(ran.exception)


def test_the_command_line_sends_a_mask(service: Service, tmp_path: Path) -> None:
    picture, black, white, edited = (tmp_path / f"{name}.png" for name in ("picture", "black", "white", "edited"))
    halves(left="red", right="green").save(picture)
    Image.new("L", (64, 64), 0).save(black)
    Image.new("L", (64, 64), 255).save(white)

    def drawn(seed: int, mask: Path) -> np.ndarray:
        small = ["--steps", "2", "--seed", str(seed), "-W", "64", "-H", "64", "--url", service.url]
        ran = CliRunner().invoke(edit_command, [str(picture), "x", "--mask", str(mask), "-o", str(edited), *small])
        assert ran.exit_code == 0, ran.output
        return np.asarray(Image.open(edited).convert("RGB")).astype(float)

    assert np.abs(drawn(1, black) - drawn(2, black)).mean() < np.abs(drawn(1, white) - drawn(2, white)).mean() / 4


def test_the_warnings_of_a_picture_come_by_each_way_of_v1(service: Service) -> None:
    clear = Image.new("RGBA", (48, 32), (255, 0, 0, 99))
    url = data_url(clear, save_all=True, append_images=[clear.rotate(90)], icc_profile=b"not a profile")
    data = base64.b64decode(url.partition(",")[2])
    stored = service.http.post("/api/images", content=data, headers={"content-type": "image/png"}).json()
    expected = {"colour_profile_dropped", "first_frame_only", "transparency_on_white"}
    assert {one["code"] for one in stored["warnings"]} == expected
    fields: dict[str, Any] = {"prompt": "make it blue", "size": "64x64", "steps": 1}
    ways = [
        {"data": fields, "files": {"image": ("a.png", data)}},
        *({"json": fields | {"images": [{"image_url": one}]}} for one in (url, stored["id"], stored["url"])),
    ]
    for way in ways:
        answer = service.http.post("/v1/images/edits", **way)
        assert answer.status_code == 200, answer.text
        assert answer.json()["warnings"] == stored["warnings"]

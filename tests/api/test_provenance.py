"""Signed pictures of a running service: each copy of a drawn picture carries a manifest that the C2PA library takes."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
from command_line import CommandLine
from pictures import pixels, quarters, saved
from PIL import Image
from served import MakeService, Service

from imagegen.images.png import manifest_bytes

SMALL = {"width": 64, "height": 64, "steps": 2}
UPLOAD = saved(quarters(), "PNG")


def verified(service: Service, data: bytes) -> dict[str, Any]:
    answer = service.http.post("/api/verify", content=data, headers={"content-type": "application/octet-stream"})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_drawn_picture_is_signed(service: Service) -> None:
    job = service.draw("a signed circle", seed=7)
    said = verified(service, service.png(job))
    assert (said["verdict"], said["by_this_service"], said["problems"]) == ("intact", True, [])
    assert (said["source_type"], said["actions"]) == ("trainedAlgorithmicMedia", ["c2pa.created"])
    assert said["drawing"] == {"model": "tiny", "seed": 7, "prompt": "a signed circle"}
    assert said["picture"]["id"] == job["images"][0]["id"]


@pytest.mark.parametrize("name", ["{}.jpg", "{}.webp", "{}.png?w=32", "{}.jpg?w=32", "{}.webp?w=32"])
def test_each_copy_is_signed_and_names_its_source(service: Service, name: str) -> None:
    job = service.draw("a signed circle", seed=7)
    path = "/images/" + name.format(job["images"][0]["id"])
    first = service.http.get(path)
    said = verified(service, first.content)
    assert (said["verdict"], said["by_this_service"], said["picture"]) == ("intact", True, None)
    assert (said["source_type"], said["actions"]) == ("trainedAlgorithmicMedia", ["c2pa.opened", "c2pa.transcoded"])
    [source] = said["sources"]
    assert (source["relation"], source["by_this_service"]) == ("parent", True)
    assert source["drawing"]["prompt"] == "a signed circle"
    again = service.http.get(path, headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.headers["etag"]) == (304, first.headers["etag"]), "it is made once"


def test_an_edit_names_the_pictures_it_was_made_from(service: Service) -> None:
    drawn = service.draw("a signed circle", seed=7)["images"][0]["id"]
    own = f"data:image/png;base64,{base64.b64encode(UPLOAD).decode()}"
    request = {"prompt": "make it green", "images": [drawn, own], **SMALL}
    job = service.ended(service.http.post("/api/edit", json=request).json()["job_id"])
    said = verified(service, service.png(job))
    assert (said["verdict"], said["source_type"]) == ("intact", "compositeWithTrainedAlgorithmicMedia")
    assert said["actions"] == ["c2pa.opened", "c2pa.edited"]
    told = [(one["relation"], one["signed"], one["drawing"]["seed"]) for one in said["sources"]]
    assert told == [("parent", True, 7), ("input", False, None)]


def test_an_upload_is_not_marked(service: Service) -> None:
    stored = service.http.post("/api/images", content=UPLOAD, headers={"content-type": "image/png"}).json()
    for path in (f"/images/{stored['id']}.png", f"/images/{stored['id']}.jpg"):
        said = verified(service, service.http.get(path).content)
        assert (said["verdict"], said["source_type"], said["by_this_service"]) == ("none", None, False)


def test_a_changed_file_is_found_out(service: Service) -> None:
    signed = service.png(service.draw("a signed circle", seed=7))
    at = signed.index(b"IDAT") + 30
    again = saved(Image.open(io.BytesIO(signed)), "PNG")
    inside = signed.index(b"imagegen.drawing")
    for changed, verdict in (
        (signed[:at] + bytes([signed[at] ^ 1]) + signed[at + 1 :], "changed"),
        (signed[:inside] + b"I" + signed[inside + 1 :], "unreadable"),
        (again, "none"),
        (signed[: len(signed) // 2], "unreadable"),
    ):
        said = verified(service, changed)
        assert (said["verdict"], said["by_this_service"]) == (verdict, False), said
        assert bool(said["problems"]) == (verdict != "none")


def test_damaged_keys_are_named_and_cost_no_picture(serve: MakeService) -> None:
    service = serve()
    folder = service.home / "provenance"
    folder.mkdir(mode=0o700)
    (folder / "root.pem").write_text("no key")
    (warning,) = service.draw()["warnings"]
    assert warning["code"] == "not_signed" and "root.pem is damaged: restore it" in warning["detail"]
    answer = service.http.post("/api/verify", content=UPLOAD, headers={"content-type": "image/png"})
    assert (answer.status_code, answer.json()["code"]) == (503, "keys_unreadable")
    assert "root.pem is damaged" in answer.json()["detail"]


def test_the_command_line_says_who_signed_a_file(service: Service, imagegen: CommandLine) -> None:
    signed = service.png(service.draw("a signed circle", seed=7))
    at = signed.index(b"IDAT") + 30
    (imagegen.folder / "good.png").write_bytes(signed)
    (imagegen.folder / "bad.png").write_bytes(signed[:at] + bytes([signed[at] ^ 1]) + signed[at + 1 :])
    (imagegen.folder / "bare.png").write_bytes(UPLOAD)
    address = f"{service.url}/images/{service.draw(seed=3)['images'][0]['id']}.webp"
    for picture, code, said in (
        ("good.png", 0, ("intact", "signed by  this service", "made by AI", "model      tiny", "seed       7")),
        (address, 0, ("intact", "parent     a picture of this service (tiny, 3, a red circle)")),
        ("bad.png", 1, ("CHANGED since it was signed", "problem    assertion.dataHash.mismatch")),
        ("bare.png", 1, ("no manifest",)),
    ):
        ran = imagegen("verify", picture, "--url", service.url)
        assert ran.code == code, ran.err
        assert all(words in ran.out for words in said), ran.out


def test_what_is_no_picture_is_refused(service: Service) -> None:
    answer = service.http.post("/api/verify", content=b"no picture", headers={"content-type": "image/png"})
    assert (answer.status_code, answer.json()["code"]) == (422, "bad_image")


def test_the_signature_changes_no_pixel_and_is_small(service: Service) -> None:
    one, two = (service.png(service.draw("a signed circle", seed=7)) for _ in range(2))
    assert one != two
    assert np.array_equal(pixels(one), pixels(two))
    assert manifest_bytes(one) < 20_000

"""POST /api/images/inspect: what of a picture's settings the service takes as a request."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from served import Service


def png(**texts: str) -> bytes:
    info = PngInfo()
    for keyword, text in texts.items():
        info.add_text(keyword, text)
    file = io.BytesIO()
    Image.new("RGB", (8, 4), "red").save(file, "PNG", pnginfo=info)
    return file.getvalue()


def inspected(service: Service, data: bytes) -> dict[str, Any]:
    answer = service.http.post("/api/images/inspect", content=data, headers={"content-type": "image/png"})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_settings_of_a_drawn_picture_draw_it_again(service: Service) -> None:
    drawn = service.draw("a bell", negative="hats", cfg_scale=1.5, seed=9)
    found = inspected(service, service.png(drawn))
    assert (found["program"], found["width"], found["warnings"]) == ("imagegen", 64, [])
    fields = {"prompt": "a bell", "negative": "hats", "model": "tiny", "seed": 9, "steps": 2, "cfg_scale": 1.5}
    assert found["request"].items() >= fields.items()
    again = service.draw(**found["request"])
    assert service.png(again) == service.png(drawn)


OTHERS = "<lora:detail:0.6> a cat\nNegative prompt: blurry\nSteps: 3, Sampler: Nonsense, CFG scale: 2, "


def test_what_the_service_cannot_use_is_said_and_left_out(service: Service) -> None:
    text = OTHERS + "Seed: 99999999999, Size: 64x100000, Model: dream_8"
    found = inspected(service, png(parameters=text))
    assert found["settings"]["model"] == "dream_8"
    assert found["settings"]["seed"] == 99999999999
    request = {"prompt": "a cat", "negative": "blurry", "width": 64, "steps": 3, "cfg_scale": 2.0}
    assert found["request"] == request
    assert {one["code"] for one in found["warnings"]} == {"setting_not_used"}
    said = " ".join(one["detail"] for one in found["warnings"])
    for word in ("dream_8", "'detail'", "'Nonsense'", "seed is 99999999999", "height is 100000"):
        assert word in said
    service.draw(**request | {"height": 64})


@pytest.mark.parametrize(
    ("texts", "program"),
    [
        ({}, None),
        ({"prompt": json.dumps({"1": {"class_type": "KSampler", "inputs": {"steps": 3}}})}, "comfyui"),
        ({"invokeai_metadata": json.dumps({"positive_prompt": "\ud800", "steps": 3})}, "invokeai"),
    ],
)
def test_a_picture_that_says_little_is_no_error(service: Service, texts: dict[str, str], program: str | None) -> None:
    found = inspected(service, png(**texts))
    assert found["program"] == program
    assert (found["request"] or {}).get("steps") == (3 if program else None)


@pytest.mark.parametrize(
    ("how", "status", "code"),
    [
        ({"content": b"GIF89a", "headers": {"content-type": "image/gif"}}, 422, "bad_image"),
        ({"content": png()[:50], "headers": {"content-type": "image/png"}}, 422, "bad_image"),
        ({"json": {"image": "x"}}, 415, "unsupported_media_type"),
        ({"files": {"picture": ("a.png", png())}}, 422, "invalid_request"),
    ],
)
def test_what_is_no_png_is_refused(service: Service, how: dict[str, Any], status: int, code: str) -> None:
    answer = service.http.post("/api/images/inspect", **how)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_the_web_uis_png_info_reads_packed_texts_too(service: Service) -> None:
    info = PngInfo()
    info.add_text("parameters", OTHERS + "Seed: 5", zip=True)
    file = io.BytesIO()
    Image.new("RGB", (8, 4)).save(file, "PNG", pnginfo=info)
    body = {"image": base64.b64encode(file.getvalue()).decode()}
    assert service.http.post("/sdapi/v1/png-info", json=body).json()["parameters"]["Seed"] == "5"

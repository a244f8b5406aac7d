"""AUTOMATIC1111's API on the real engine: pictures, progress, the end of the caller's own jobs, settings in a PNG."""

from __future__ import annotations

import base64
import io
import json
import threading
from typing import Any

import pytest
from PIL import Image
from served import Service, until

SMALL = {"prompt": "a red circle", "width": 64, "height": 64, "steps": 2, "seed": 7, "cfg_scale": 1}


def post(service: Service, route: str, body: dict[str, Any] | None = None) -> Any:
    answer = service.http.post(f"/sdapi/v1/{route}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def get(service: Service, route: str) -> Any:
    answer = service.http.get(f"/sdapi/v1/{route}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def opened(b64: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(b64)))


def test_a_picture_says_how_it_was_made_and_png_info_reads_it(service: Service) -> None:
    body = SMALL | {"negative_prompt": "hats, coats", "n_iter": 2, "sampler_name": "DPM++ 2M Karras", "colour": "red"}
    drawn = post(service, "txt2img", body)
    info = json.loads(drawn["info"])
    assert [opened(picture).size for picture in drawn["images"]] == [(64, 64)] * 2
    assert (info["all_seeds"], info["sampler_name"], info["sd_model_name"]) == ([7, 8], "DPM++ 2M", "tiny")
    assert [one["code"] for one in info["warnings"]][:1] == ["hint_without_effect"]
    assert service.job(info["job_id"])["warnings"] == info["warnings"]
    written = [opened(picture).info["parameters"] for picture in drawn["images"]]
    assert written == info["infotexts"]
    assert written[1].startswith(
        "a red circle\nNegative prompt: hats, coats\nSteps: 2, Sampler: DPM++ 2M, CFG scale: 1, Seed: 8, "
    )
    read = post(service, "png-info", {"image": f"data:image/png;base64,{drawn['images'][0]}"})
    assert read["info"] == written[0]
    assert (read["parameters"]["Prompt"], read["parameters"]["Seed"]) == ("a red circle", "7")
    assert read["items"]["Comment"] == "AI-generated"


@pytest.mark.parametrize("image", ["", "nothing", base64.b64encode(b"\x89PNG\r\n\x1a\n, and cut off").decode()])
def test_png_info_of_what_is_no_picture_is_empty(service: Service, image: str) -> None:
    assert post(service, "png-info", {"image": image}) == {"info": "", "items": {}, "parameters": {}}


def test_a_picture_is_edited(service: Service) -> None:
    drawn = post(service, "txt2img", SMALL)["images"][0]
    edit = SMALL | {"prompt": "make it blue", "init_images": [drawn], "denoising_strength": 0.5}
    edited = post(service, "img2img", edit)
    info = json.loads(edited["info"])
    assert opened(edited["images"][0]).size == (64, 64)
    assert service.job(info["job_id"])["kind"] == "edit"
    assert (info["denoising_strength"], info["warnings"]) == (0.5, [])
    assert service.job(info["job_id"])["params"]["strength"] == 0.5
    assert "init_images" not in edited["parameters"]


def test_a_size_over_the_cap_is_reduced(service: Service) -> None:
    drawn = post(service, "txt2img", SMALL | {"width": 4096, "height": 64, "steps": 1, "send_images": False})
    info = json.loads(drawn["info"])
    assert drawn["images"] == []
    assert (info["width"], info["warnings"][0]["code"]) == (512, "size_reduced")


def test_the_chosen_model_is_the_next_requests(service: Service) -> None:
    assert get(service, "options")["sd_model_checkpoint"] == "tiny"
    assert post(service, "options", {"sd_model_checkpoint": "tiny [0123abcdef]", "sd_vae": "x"})["warnings"] == [
        {"code": "hint_without_effect", "detail": "Unknown fields have no effect: 'sd_vae'."}
    ]
    assert "tiny" in [model["title"] for model in get(service, "sd-models")]
    refused = service.http.post("/sdapi/v1/options", json={"sd_model_checkpoint": "v1-5-pruned"})
    assert (refused.status_code, refused.json()["error"]) == (422, "unknown_model")
    assert get(service, "options")["sd_model_checkpoint"] == "tiny"
    assert {"name": "Euler a", "aliases": ["euler_a"], "options": {}} in get(service, "samplers")


def test_progress_and_interrupt_are_of_the_callers_own_jobs(service: Service) -> None:
    assert get(service, "progress")["state"]["job_count"] == 0
    answers: list[Any] = []
    body = SMALL | {"prompt": "interrupted"}
    thread = threading.Thread(target=lambda: answers.append(service.http.post("/sdapi/v1/txt2img", json=body)))
    with service.at_work() as other:
        thread.start()
        until(lambda: get(service, "progress")["state"]["job_count"] == 1, "the job is there")
        waits = get(service, "progress")
        assert (waits["progress"], waits["state"]["sampling_step"]) == (0.0, 0)
        assert waits["current_task"] != other["job_id"]
        post(service, "interrupt")
        thread.join(60)
        assert (answers[0].status_code, answers[0].json()["error"]) == (409, "cancelled")
        assert service.job(other["job_id"])["status"] == "running", "a job of another route goes on"
    assert post(service, "skip") == {}


def test_progress_shows_the_picture_as_it_looks_now(service: Service) -> None:
    body = SMALL | {"steps": 100, "width": 256, "height": 256, "n_iter": 4}
    thread = threading.Thread(target=lambda: service.http.post("/sdapi/v1/txt2img", json=body))
    thread.start()
    seen: list[dict[str, Any]] = []

    def shown() -> bool:
        seen.append(get(service, "progress"))
        state = seen[-1]["state"]
        return seen[-1]["current_image"] is not None and 0 < state["sampling_step"] < state["sampling_steps"]

    try:
        until(shown, "a preview is there")
        assert opened(seen[-1]["current_image"]).format == "JPEG"
        assert (seen[-1]["textinfo"], seen[-1]["state"]["sampling_steps"]) == ("sampling", 100)
        assert 0 < seen[-1]["progress"] < 1
        assert get(service, "progress?skip_current_image=true")["current_image"] is None
    finally:
        post(service, "skip")
        thread.join(60)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", "/sdapi/v1/extra-batch-images", 404, "not_found"),
        ("GET", "/sdapi/v1/nothing", 404, "not_found"),
        ("GET", "/sdapi/v1/txt2img", 405, "method_not_allowed"),
        ("POST", "/sdapi/v1/txt2img", 400, "bad_json"),
    ],
)
def test_refusals_have_automatic1111s_shape(service: Service, method: str, path: str, status: int, code: str) -> None:
    answer = service.http.request(method, path)
    assert answer.status_code == status
    error = answer.json()
    assert error.keys() == {"error", "detail", "body", "errors"}
    assert (error["error"], error["detail"]) == (code, error["errors"])
    assert service.http.options("/sdapi/v1/txt2img").status_code == 204

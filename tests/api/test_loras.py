"""LoRAs of a request: what the picture is, where its LoRAs are shown, and what is refused before the engine sees it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from loras import pair, put, safetensors
from PIL import Image
from served import ENDLESS, Service

from imagegen.images.png_texts import texts

LORAS = {
    "strong": safetensors(pair(), {"ss_base_model_version": "klein", "modelspec.trigger_phrase": "wtr, soft"}),
    "other": safetensors(pair("transformer_blocks.0.attn.add_q_proj", 3072, 3072)),
    "cut": safetensors(pair())[:999],
}


@pytest.fixture
def service(service: Service) -> Iterator[Service]:
    """The shared service with LoRAs; they are taken away afterwards."""
    for name, data in LORAS.items():
        put(service.home, name, data)
    (service.home / "loras" / "link.safetensors").symlink_to(service.home / "models" / "tiny" / "dit.gguf")
    yield service
    for file in (service.home / "loras").iterdir():
        file.unlink()


def pixels(service: Service, job: dict[str, Any]) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(service.png(job))).convert("RGB"))


def drawn(service: Service, **fields: Any) -> np.ndarray:
    return pixels(service, service.draw(**fields))


def lora(name: str = "strong", **more: Any) -> dict[str, Any]:
    return {"loras": [{"name": name, **more}]}


def test_a_lora_changes_its_own_picture_and_no_other(service: Service) -> None:
    plain = drawn(service)
    assert (drawn(service, **lora(strength=0)) == plain).all()
    whole = drawn(service, **lora())
    assert (whole != plain).any()
    assert (drawn(service) == plain).all(), "nothing of it is left in the model"
    half = drawn(service, **lora(strength=0.5))
    assert (half != plain).any() and (half != whole).any()
    assert (drawn(service, **lora(strength=1.0)) == whole).all()


def test_a_job_with_a_lora_can_be_stopped(service: Service) -> None:
    plain = drawn(service)
    job = service.submit(**lora(), **ENDLESS)
    with service.engine_held(job["job_id"]):
        assert service.http.delete(f"/api/jobs/{job['job_id']}").status_code == 200
    assert service.ended(job["job_id"])["status"] == "cancelled"
    assert (drawn(service) == plain).all()


def test_a_lora_is_shown_in_the_job_and_in_the_picture(service: Service) -> None:
    job = service.draw("a red circle", **lora(strength=0.8))
    assert job["params"]["loras"] == [{"name": "strong", "strength": 0.8}]
    assert service.draw()["params"]["loras"] == []
    said = texts(service.png(job))
    assert said["loras"] == "strong:0.8"
    assert said["parameters"].startswith("a red circle <lora:strong:0.8>\nSteps: ")
    checked = service.http.post("/api/check", json={"prompt": "a", **lora("strong.safetensors")}).json()
    assert checked["params"]["loras"] == [{"name": "strong", "strength": 1.0}]


def test_the_list_says_what_each_can_be_used_with(service: Service) -> None:
    items = {one.pop("name"): one for one in service.http.get("/api/loras").json()["items"]}
    assert items.keys() == LORAS.keys(), "a link out of the folder is none"
    strong = items["strong"]
    assert strong["bytes"] == len(LORAS["strong"])
    assert (strong["base_model"], strong["family"], strong["trigger_words"]) == ("klein", "FLUX", ["wtr", "soft"])
    assert "tiny" in strong["models"] and items["other"]["models"] == []
    assert "is cut off" in items["cut"]["fault"] and strong["fault"] is None


BAD: list[tuple[Any, str, str]] = [
    ([{"name": "none"}], "unknown_lora", "There is no LoRA 'none'. There are: cut, other, strong."),
    ([{"name": "../models/tiny/dit"}], "unknown_lora", "There is no LoRA"),
    ([{"name": "link"}], "unknown_lora", "There is no LoRA 'link'"),
    ([{"name": "cut"}], "lora_damaged", "The LoRA cut is cut off"),
    ([{"name": "other"}], "lora_of_another_model", "was made for another model (Qwen-Image, and tiny is FLUX.2): its "),
    ([{"name": "strong"}, {"name": "strong.safetensors"}], "invalid_request", "more than once"),
    ([{"name": "strong"}] * 5, "invalid_request", "at most 4 are taken (IMAGEGEN_MAX_LORAS)"),
    ([{"name": "strong", "strength": 5.1}], "invalid_request", "loras.0.strength is 5.1; -5 to 5 is allowed."),
    ([{"name": "strong", "strength": "1"}], "invalid_request", "loras.0.strength must be a number."),
    ([{"name": "strong", "weight": 1}], "invalid_request", "'loras.0.weight' is not a field"),
    ([{"strength": 1}], "invalid_request", "loras.0.name is missing."),
    (["strong"], "invalid_request", "loras.0 must be a JSON object."),
    ("strong", "invalid_request", "loras must be a list."),
]


@pytest.mark.parametrize(("loras", "code", "told"), BAD, ids=[f"{code}-{told[-12:]}" for _, code, told in BAD])
def test_bad_loras_are_refused_before_there_is_a_job(service: Service, loras: Any, code: str, told: str) -> None:
    before = service.http.get("/api/jobs?limit=1").json()["items"]
    for path in ("/api/generate", "/api/check"):
        answer = service.http.post(path, json={"prompt": "a", "loras": loras})
        assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text
        assert told in answer.json()["detail"]
        assert str(service.home) not in answer.text
    assert [one["job_id"] for one in service.http.get("/api/jobs?limit=1").json()["items"]] == [
        one["job_id"] for one in before
    ]


def test_a_lora_that_was_removed_meanwhile_fails_its_job(service: Service) -> None:
    with service.at_work() as first:
        waiting = service.submit(**lora())
        (service.home / "loras" / "strong.safetensors").unlink()
    assert service.ended(first["job_id"])["status"] == "complete"
    job = service.ended(waiting["job_id"])
    assert (job["status"], job["error"]["code"]) == ("failed", "unknown_lora")
    assert job["error"]["detail"].startswith("There is no LoRA 'strong'.")
    assert service.draw()["status"] == "complete"


def test_an_edit_takes_loras_in_a_form_and_in_json(service: Service) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(picture, "PNG")
    fields = {"prompt": "a", "steps": "2", "seed": "1", "width": "64", "height": "64"}
    drawn = []
    for more in ({}, {"loras": '[{"name": "strong", "strength": 0.5}]'}):
        files = {"image": ("a.png", picture.getvalue(), "image/png")}
        answer = service.http.post("/api/edit", data=fields | more, files=files)
        assert answer.status_code == 202, answer.text
        drawn.append(service.ended(answer.json()["job_id"]))
    assert drawn[1]["params"]["loras"] == [{"name": "strong", "strength": 0.5}]
    assert (pixels(service, drawn[0]) != pixels(service, drawn[1])).any()
    files = {"image": ("a.png", picture.getvalue(), "image/png")}
    answer = service.http.post("/api/edit", data=fields | {"loras": "strong"}, files=files)
    assert (answer.status_code, answer.json()["detail"]) == (422, "loras must be a list.")


def test_openais_api_takes_loras_as_an_extra_field(service: Service) -> None:
    body = {"prompt": "a red circle", "size": "64x64", "steps": 2, "seed": 1}
    answer = service.http.post("/v1/images/generations", json=body | lora())
    assert answer.status_code == 200, answer.text
    assert service.http.get(f"/api/jobs/{answer.json()['job_id']}").json()["params"]["loras"][0]["name"] == "strong"
    refused = service.http.post("/v1/images/generations", json=body | lora("none"))
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "unknown_lora")


def test_a_prompt_names_loras_under_automatic1111s_api_only(service: Service) -> None:
    body = {"prompt": "a red circle <lora:strong:0.8>", "width": 64, "height": 64, "steps": 2, "seed": 1}
    answer = service.http.post("/sdapi/v1/txt2img", json=body)
    assert answer.status_code == 200, answer.text
    newest = service.http.get("/api/jobs?limit=1").json()["items"][0]
    assert (newest["prompt"], newest["params"]["loras"]) == ("a red circle", [{"name": "strong", "strength": 0.8}])
    assert "a red circle <lora:strong:0.8>" in answer.json()["info"]
    refused = service.http.post("/sdapi/v1/txt2img", json=body | {"prompt": "a <lora:none:1>"})
    assert (refused.status_code, refused.json()["error"]) == (422, "unknown_lora")
    assert "'none'" in refused.json()["detail"]
    (listed,) = [one for one in service.http.get("/sdapi/v1/loras").json() if one["name"] == "strong"]
    assert listed["path"] == "strong.safetensors"
    inert = service.draw(body["prompt"])
    assert (inert["prompt"], inert["params"]["loras"]) == (body["prompt"], [])


def test_the_engine_can_open_only_the_loras_of_the_picture(service: Service) -> None:
    service.draw(**lora())
    links = service.home / "engine" / "loras"
    assert [one.readlink().name for one in links.iterdir()] == ["strong.safetensors"]
    service.draw()
    assert list(links.iterdir()) == []


def test_a_repeated_task_has_the_same_loras(service: Service) -> None:
    job = service.draw(**lora(strength=0.5))
    again = service.http.post("/generate/retry", params={"task_id": job["job_id"]})
    assert again.status_code == 200, again.text
    repeated = service.ended(again.json()["task_id"])
    assert repeated["params"]["loras"] == [{"name": "strong", "strength": 0.5}]
    assert (pixels(service, repeated) == pixels(service, job)).all()

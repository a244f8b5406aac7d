"""POST /api/check: what a request would become, without a job."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from served import Service

SMALL = {"width": 64, "height": 64, "steps": 1, "seed": 7}


def checked(service: Service, **body: Any) -> dict[str, Any]:
    """The answer; no job is made for it."""
    before = service.http.get("/api/jobs?limit=1").json()["items"][:1]
    answer = service.http.post("/api/check", json=body)
    assert service.http.get("/api/jobs?limit=1").json()["items"][:1] == before
    return answer.json() | {"status": answer.status_code}


def test_it_answers_what_the_job_then_is(service: Service) -> None:
    asked = {"prompt": "a red circle", "negative": "text", **SMALL, "steps": 9}
    job = service.draw(**asked)
    answer = checked(service, **asked)
    assert (answer["kind"], answer["model"], answer["params"]) == ("generate", "tiny", job["params"])
    assert answer["warnings"] == job["warnings"] and {one["code"] for one in job["warnings"]} >= {"outside_range"}
    assert answer["draws_it"] and answer["fits"]
    assert answer["drawing_s"] > 0


def test_an_edit_is_checked_with_its_pictures(service: Service) -> None:
    picture = service.draw()["images"][0]["id"]
    url = "data:image/png;base64," + base64.b64encode(service.http.get(f"/images/{picture}.png").content).decode()
    stored = service.http.get("/api/images?limit=200").json()["items"]
    answer = checked(service, prompt="make it blue", images=[picture], mask=url, fit="cover", **SMALL)
    assert (answer["kind"], answer["params"]["fit"]) == ("edit", "cover")
    assert service.http.get("/api/images?limit=200").json()["items"] == stored


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"prompt": "x", "width": 4096}, "size_out_of_range"),
        ({"prompt": "x", "model": "nothing"}, "unknown_model"),
        ({"prompt": "x", "images": ["nothing"]}, "unknown_image"),
        ({"prompt": "x", "mask": "nothing"}, "invalid_request"),
        ({"prompt": ""}, "invalid_request"),
        ({"prompt": "x", "steps": "9"}, "invalid_request"),
        ({"prompt": "x", "surprise": 1}, "invalid_request"),
    ],
)
def test_it_refuses_what_would_be_refused(service: Service, body: dict[str, Any], code: str) -> None:
    answer = checked(service, **body)
    assert (answer["status"], answer["code"]) == (422, code)


@pytest.mark.parametrize(
    ("prompt", "codes"),
    [
        ("a red circle", []),
        ("a giraffe", ["unknown_subject"]),
        ("an oil painting of a tree", ["unknown_style"]),
        ('a sign that says "STOP"', ["text_unreadable"]),
        ('a photo of a giraffe that says "no"', ["unknown_subject", "unknown_style", "text_unreadable"]),
    ],
)
def test_it_says_what_the_model_cannot_draw(service: Service, prompt: str, codes: list[str]) -> None:
    answer = checked(service, prompt=prompt, model="sketch")
    assert [one["code"] for one in answer["warnings"]] == codes
    assert answer["draws_it"] == (codes == [])

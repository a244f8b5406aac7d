"""POST /api/variations on the real engine: of a job, of a drawn picture, and of an uploaded one."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from served import ROOT, Service

from imagegen.admission.repeats import VARIATION_PROMPT

SAME = ("width", "height", "steps", "cfg_scale", "sampler", "negative", "background")


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(file, "PNG")
    return file.getvalue()


def varied(service: Service, **body: Any) -> dict[str, Any]:
    answer = service.http.post("/api/variations", **body)
    assert answer.status_code == 202, answer.text
    job = service.ended(answer.json()["job_id"])
    assert job["status"] == "complete", job
    return job


@pytest.mark.parametrize("named", ["image", "job_id"])
def test_a_drawn_picture_is_drawn_again_with_other_seeds(service: Service, named: str) -> None:
    drawn = service.draw("a bell", negative="hats", cfg_scale=1.5, n=2)
    of = {"image": drawn["images"][1]["id"], "job_id": drawn["job_id"]}[named]
    job = varied(service, json={named: of, "n": 3})
    assert (job["kind"], job["prompt"], job["model"]) == ("generate", "a bell", drawn["model"])
    assert {name: job["params"][name] for name in SAME} == {name: drawn["params"][name] for name in SAME}
    assert (job["params"]["seed_given"], len(job["images"])) == (False, 3)
    files = {service.unsigned(one, index) for one in (job, drawn) for index in range(len(one["images"]))}
    assert len(files) == 5, "no two are the same"
    again = varied(service, json={named: of, "seed": drawn["params"]["seed"]})
    assert service.unsigned(again) == service.unsigned(drawn), "with the seed of the first picture it is that picture"


def test_a_picture_that_an_edit_drew_is_edited_again(service: Service) -> None:
    body = {"prompt": "make it blue", "images": [service.draw()["images"][0]["id"]], "steps": 2, "strength": 0.5}
    edited = service.ended(service.http.post("/api/edit", json=body).json()["job_id"])
    job = varied(service, json={"image": edited["images"][0]["id"]})
    assert (job["kind"], job["prompt"], job["references"]) == ("edit", "make it blue", body["images"])
    assert job["params"]["strength"] == 0.5


def test_an_uploaded_picture_is_drawn_anew_by_an_edit(service: Service) -> None:
    uploaded = service.http.post("/api/images", content=png(), headers={"content-type": "image/png"}).json()["id"]
    url = f"data:image/png;base64,{base64.b64encode(png()).decode()}"
    jobs = [
        varied(service, json={"image": uploaded}),
        varied(service, json={"image": url, "prompt": "another red square"}),
        varied(service, data={"n": "2"}, files={"image": ("a.png", png())}),
    ]
    assert [job["kind"] for job in jobs] == ["edit"] * 3
    assert [len(job["images"]) for job in jobs] == [1, 1, 2]
    assert [job["prompt"] for job in jobs] == [VARIATION_PROMPT, "another red square", VARIATION_PROMPT]


REFUSED: list[tuple[dict[str, Any], int, str]] = [
    ({}, 422, "invalid_request"),
    ({"image": "0" * 32, "job_id": "0" * 32}, 422, "invalid_request"),
    ({"image": "0" * 32}, 422, "unknown_image"),
    ({"image": "../../etc/passwd"}, 422, "unknown_image"),
    ({"job_id": "0" * 32}, 404, "job_not_found"),
    ({"image": "data:image/png;base64,AAAA"}, 422, "bad_image"),
    ({"image": "data:image/png;base64,AAAA", "model": "sd-turbo"}, 422, "not_supported_by_model"),
    ({"job_id": "a job", "prompt": "x"}, 422, "invalid_request"),
    ({"job_id": "a job", "model": "tiny"}, 422, "invalid_request"),
    ({"job_id": "a job", "n": 99}, 422, "invalid_request"),
    ({"job_id": "a job", "surprise": 1}, 422, "invalid_request"),
]


@pytest.mark.parametrize(("body", "status", "code"), REFUSED, ids=str)
def test_what_cannot_be_varied_is_refused(service: Service, body: dict[str, Any], status: int, code: str) -> None:
    if body.get("job_id") == "a job":
        body = body | {"job_id": service.draw(steps=1)["job_id"]}
    before = service.http.get("/api/jobs?limit=1").json()["items"][0]["job_id"]
    answer = service.http.post("/api/variations", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert service.http.get("/api/jobs?limit=1").json()["items"][0]["job_id"] == before


def test_the_command_line_varies_a_picture_a_job_and_a_file(service: Service, tmp_path: Path) -> None:
    drawn = service.draw("a bell")
    (tmp_path / "red.png").write_bytes(png())
    (tmp_path / f"{'0' * 32}.png").write_bytes(png())
    for what, n, kind in (
        (drawn["images"][0]["url"], 2, "generate"),
        (drawn["job_id"], 1, "generate"),
        ("red.png", 1, "edit"),
        (f"{'0' * 32}.png", 1, "edit"),
    ):
        command = [
            sys.executable,
            "-m",
            "imagegen.cli",
            "vary",
            what,
            "-n",
            str(n),
            "-o",
            "v.png",
            "--url",
            service.url,
        ]
        ended = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, timeout=120)
        assert ended.returncode == 0, ended.stderr
        written = [tmp_path / name for name in (["v.png"] if n == 1 else ["v-1.png", "v-2.png"])]
        assert [Image.open(file).format for file in written] == ["PNG"] * n
        assert service.http.get("/api/jobs?limit=1").json()["items"][0]["kind"] == kind

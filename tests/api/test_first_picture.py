"""From a prompt to a PNG on the real engine, as a user would do it: HTTP, curl's forms, and the command line."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from served import Service, gone, until

from imagegen.models.catalog import Catalog


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def test_a_prompt_becomes_a_png_of_the_asked_size(service: Service) -> None:
    job = service.draw("a red circle", width=96, height=64, seed=5)
    image = job["images"][0]
    png = service.png(job)
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert pixels(png).shape == (64, 96, 3)
    assert pixels(png).std() > 5, "one flat colour is no picture"
    assert (image["width"], image["height"], image["bytes"], image["seed"]) == (96, 64, len(png), 5)
    assert job["url"] == image["url"]
    assert job["params"]["steps"] == 2
    assert job["position"] is None
    assert job["expires_at"] == image["expires_at"]


def test_same_seed_same_pixels_other_seed_or_prompt_others(service: Service) -> None:
    first = pixels(service.png(service.draw("a red circle", seed=7)))
    again = pixels(service.png(service.draw("a red circle", seed=7)))
    seed = pixels(service.png(service.draw("a red circle", seed=8)))
    prompt = pixels(service.png(service.draw("a green tree", seed=7)))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, seed)
    assert not np.array_equal(first, prompt)


def test_an_edit_differs_from_its_source_and_from_a_drawing(service: Service) -> None:
    source = service.draw("a red circle", seed=7)
    source_id = source["images"][0]["id"]
    request = {"prompt": "make it blue", "images": [source_id], "steps": 2, "seed": 7}
    submitted = service.http.post("/api/edit", json=request)
    assert submitted.status_code == 202, submitted.text
    edited = service.ended(submitted.json()["job_id"])
    assert edited["status"] == "complete", edited
    assert (edited["kind"], edited["references"]) == ("edit", [source_id])
    drawn = service.draw("make it blue", seed=7)
    result = pixels(service.png(edited))
    assert not np.array_equal(result, pixels(service.png(source)))
    if result.shape == (64, 64, 3):
        assert not np.array_equal(result, pixels(service.png(drawn))), "the reference changed nothing"


def test_an_edit_by_form_as_curl_sends_it(service: Service, tmp_path: Path) -> None:
    file = tmp_path / "in.png"
    Image.new("RGB", (80, 64), "red").save(file)
    form = {"prompt": "make it blue", "steps": "2", "width": "64", "height": "64"}
    with file.open("rb") as picture:
        answer = service.http.post("/api/edit", data=form, files={"image": ("in.png", picture, "image/png")})
    assert answer.status_code == 202, answer.text
    job = service.ended(answer.json()["job_id"])
    assert job["status"] == "complete", job
    assert job["params"]["steps"] == 2


def test_several_pictures_of_one_job_have_seeds_of_their_own(service: Service) -> None:
    job = service.draw(n=2, seed=2**32 - 1)
    assert [image["seed"] for image in job["images"]] == [2**32 - 1, 0]
    assert not np.array_equal(pixels(service.png(job, 0)), pixels(service.png(job, 1)))


def test_the_png_says_how_it_was_made_and_that_it_is_generated(service: Service) -> None:
    png = service.png(service.draw('a "red" circle ☕', seed=7))
    text = Image.open(io.BytesIO(png)).text
    assert text["prompt"] == 'a "red" circle ☕'
    assert (text["model"], text["seed"], text["steps"], text["cfg_scale"]) == ("tiny", "7", "2", "1")
    assert "trainedAlgorithmicMedia" in text["XML:com.adobe.xmp"]


def test_pictures_are_converted_and_reduced_on_request(service: Service) -> None:
    image_id = service.draw(width=128, height=64)["images"][0]["id"]
    jpg = service.http.get(f"/images/{image_id}.jpg", params={"w": 32})
    webp = service.http.get(f"/images/{image_id}.webp")
    assert (jpg.headers["content-type"], webp.headers["content-type"]) == ("image/jpeg", "image/webp")
    assert Image.open(io.BytesIO(jpg.content)).size == (32, 16)
    assert Image.open(io.BytesIO(webp.content)).size == (128, 64)
    unchanged = service.http.get(f"/images/{image_id}.webp", headers={"if-none-match": webp.headers["etag"]})
    assert unchanged.status_code == 304


def test_jobs_run_in_order_and_say_where_they_are(service: Service) -> None:
    with service.at_work():
        submitted = [service.submit(seed=seed) for seed in range(4)]
    assert [job["position"] for job in submitted] == sorted(job["position"] for job in submitted)
    jobs = [service.ended(job["job_id"]) for job in submitted]
    assert [job["status"] for job in jobs] == ["complete"] * 4
    assert [job["finished_at"] for job in jobs] == sorted(job["finished_at"] for job in jobs)
    listed = service.http.get("/api/jobs", params={"limit": 2}).json()
    assert [item["job_id"] for item in listed["items"]] == [jobs[3]["job_id"], jobs[2]["job_id"]]
    older = service.http.get("/api/jobs", params={"limit": 2, "before": listed["next"]}).json()
    assert [item["job_id"] for item in older["items"]] == [jobs[1]["job_id"], jobs[0]["job_id"]]


def test_a_long_poll_ends_when_the_status_changes(service: Service) -> None:
    job = service.submit()
    while job["status"] in {"queued", "running"}:
        answer = service.http.get(f"/api/jobs/{job['job_id']}", params={"wait": 20})
        assert answer.json()["revision"] >= job["revision"]
        job = answer.json()
    assert job["status"] == "complete"


def test_an_idle_engine_is_unloaded_though_it_is_watched_and_loads_again(serve) -> None:
    service = serve(idle_timeout="1")
    job = service.submit(width=128, height=128, steps=40)
    pid = service.until_drawing(job["job_id"]) and service.engine_pid
    assert pid is not None
    assert service.ended(job["job_id"])["status"] == "complete"

    def watched_until_cold() -> bool:
        service.http.get("/metrics")
        service.http.get("/readyz")
        service.job(job["job_id"])
        return service.status()["engine"]["state"] == "cold"

    until(watched_until_cold, "an engine that is only watched is unloaded")
    assert gone(pid)
    assert service.engine_pid is None
    assert service.draw()["status"] == "complete"
    assert service.engine_pid != pid


def test_warm_loads_and_unload_gives_the_memory_back(serve) -> None:
    service = serve(idle_timeout="never")
    assert service.status()["engine"]["state"] == "cold"
    assert service.http.post("/api/warm").status_code == 202
    state = service.until_state("ready")
    assert state["idle"]["unload_at"] is None
    assert state["idle"]["reason"].startswith("stays loaded")
    pid = service.engine_pid
    assert service.http.post("/api/unload").status_code == 202
    assert gone(pid)


@pytest.fixture
def cli(service: Service, tmp_path: Path):
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "imagegen.cli", *arguments]
        environment = {**os.environ, "IMAGEGEN_URL": service.url}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)

    return run


def test_the_command_line_draws_edits_and_lists(cli, tmp_path: Path) -> None:
    drawn = cli("draw", "a red circle", "-o", "a.png", "-W", "64", "-H", "64", "--steps", "2")
    assert drawn.returncode == 0, drawn.stderr
    assert Image.open(tmp_path / "a.png").size == (64, 64)
    assert f"model: {Catalog.packaged().get('tiny').title}\n" in drawn.stderr
    edited = cli("edit", "a.png", "make it blue", "-o", "b.jpg", "--steps", "2", "-W", "64", "-H", "64")
    assert edited.returncode == 0, edited.stderr
    assert Image.open(tmp_path / "b.jpg").format == "JPEG"
    assert "complete" in cli("jobs").stdout
    status = cli("status")
    assert "noise" in status.stdout, "a person must be told that tiny's pictures are noise"


def test_the_command_line_says_what_is_wrong(cli, tmp_path: Path) -> None:
    refused = cli("draw", "a red circle", "-W", "9999")
    assert refused.returncode == 3
    assert "size_out_of_range" in refused.stderr
    nobody = subprocess.run(
        [sys.executable, "-m", "imagegen.cli", "jobs", "--url", "http://127.0.0.1:9"], capture_output=True, text=True
    )
    assert nobody.returncode == 4
    assert "imagegen serve" in nobody.stderr

"""The second engine behind every way in: one service with `glm-tiny`. Faults: the tests that ask for `drawer`."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fronts
import pytest
from fronts import call, image_id_of, stdio, text_of
from PIL import Image
from served import ROOT, ImagegenServe, Service, gone, new_home, until

SMALL = {"width": 64, "height": 64, "steps": 2}


@pytest.fixture(scope="module")
def glm(tmp_path_factory, glm_models_dir: Path) -> Iterator[Service]:
    """As `imagegen serve` starts it on a machine without sd-server, which it has no use for."""
    base = tmp_path_factory.mktemp("glm")
    settings = {"model": "glm-tiny", "idle_timeout": "never", "cache": base / "cache", "log_level": "DEBUG"}
    home = new_home(base / "home", glm_models_dir)
    wide = "defaults.width = { value = 128, min = 64, max = 640 }"
    entry = f'base = "glm-tiny"\nedit_max_aspect = 8\n{wide}\n'  # the engine's own is 4
    (home / "models" / "glm-tiny.toml").write_text(entry)
    service = ImagegenServe(home, None, settings)
    service.start()
    yield service
    service.end()
    assert not (base / "cache" / "engine").exists(), "no sd-server was built"


def run(service: Service, *words: str) -> subprocess.CompletedProcess[str]:
    environment = service.environment()
    return subprocess.run(
        [sys.executable, "-m", *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240
    )


def png(color: str = "red", side_px: int = 64) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side_px, side_px), color).save(file, "PNG")
    return file.getvalue()


def test_http_draws_and_says_what_this_model_does_not_take(glm: Service) -> None:
    job = glm.draw("a sign that says 'OPEN'", negative="a dog", width=70, height=64)
    assert (job["images"][0]["width"], job["images"][0]["height"], job["model"]) == (96, 64, "glm-tiny")
    assert {warning["code"] for warning in job["warnings"]} == {"negative_inert", "size_rounded"}
    details = {warning["code"]: warning["detail"] for warning in job["warnings"]}
    assert "this model does not read a negative prompt" in details["negative_inert"]
    assert job["policy"]["negative"] == "inert"
    assert glm.http.get("/api/policy").json()["policy"]["negative"] == "inert"
    wrong = glm.http.post("/api/generate", json={"prompt": "x", "sampler": "heun"})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "not_supported_by_model")
    warned = glm.http.post("/api/generate", json={"prompt": "x", "cfg_scale": 7.5, **SMALL}).json()
    assert "outside_range" in {warning["code"] for warning in warned["warnings"]}
    glm.http.delete(f"/api/jobs/{warned['job_id']}")
    status = glm.status()
    assert (status["engine"]["model"], status["model"]["noise"]) == ("glm-tiny", True)


def test_a_model_without_previews_draws_and_says_why_there_is_none(glm: Service) -> None:
    job = glm.submit(preview="auto", steps=100, width=512, height=512)
    glm.until_drawing(job["job_id"])
    refused = glm.http.get(f"/api/jobs/{job['job_id']}/preview").json()
    assert (refused["code"], glm.job(job["job_id"])["preview"]) == ("preview_not_found", None)
    assert "its model has none" in refused["detail"]
    glm.http.delete(f"/api/jobs/{job['job_id']}")


def test_a_cancel_in_a_pictures_first_moments_leaves_the_engine_free(glm: Service) -> None:
    glm.draw()
    pid, before = glm.engine_pid, steps_drawn(glm)
    pictures = [f"data:image/png;base64,{base64.b64encode(png(color, 1024)).decode()}" for color in ("red", "blue")]
    request = {"prompt": "x", "images": pictures * 2, "width": 512, "height": 512, "steps": 100}
    for _ in range(3):
        job_id = glm.http.post("/api/edit", json=request).json()["job_id"]
        until(lambda: glm.job(job_id)["status"] != "queued", "the job runs", every=0)  # noqa: B023 - called at once
        assert glm.http.delete(f"/api/jobs/{job_id}").json()["status"] == "cancelled"
        glm.until_state("ready")
    assert glm.engine_pid == pid
    assert steps_drawn(glm) - before < 100, "none of the three was drawn to its end"


def steps_drawn(service: Service) -> int:
    """How many steps its engine has told of."""
    return service.log.read_text().count(" @step ")


def test_a_wide_edit_is_refused_and_the_engines_refusal_leaves_it_loaded(glm: Service) -> None:
    glm.draw()
    pid = glm.engine_pid
    request = {"prompt": "x", "images": [f"data:image/png;base64,{base64.b64encode(png()).decode()}"], "height": 64}
    refused = glm.http.post("/api/edit", json=request | {"width": 576})
    assert (refused.status_code, refused.json()["code"]) == (422, "size_out_of_range")
    assert "may be 8 times as long one way as the other at most, and this would be 576x64" in refused.json()["detail"]
    job = glm.ended(glm.http.post("/api/edit", json=request | {"width": 512}).json()["job_id"])
    assert (job["status"], job["error"]["code"]) == ("failed", "draw_failed")
    assert "aspect ratio" in job["error"]["detail"] and "last words" not in job["error"]["detail"]
    glm.until_state("ready")
    assert glm.engine_pid == pid


def test_openais_route_draws_and_edits(glm: Service) -> None:
    asked = {"model": "glm-tiny", "prompt": "a red circle", "size": "64x64", "steps": 2}
    drawn = glm.http.post("/v1/images/generations", json=asked)
    assert drawn.status_code == 200, drawn.text
    assert base64.b64decode(drawn.json()["data"][0]["b64_json"]).startswith(b"\x89PNG")
    fields = {"prompt": "make it green", "size": "64x64", "steps": "2"}
    edited = glm.http.post("/v1/images/edits", data=fields, files={"image": ("a.png", png(), "image/png")})
    assert edited.status_code == 200, edited.text
    assert "glm-tiny" in {model["id"] for model in glm.http.get("/v1/models").json()["data"]}


def test_the_command_line_draws_and_edits(glm: Service, tmp_path: Path) -> None:
    source, drawn, edited = (tmp_path / f"{name}.png" for name in ("source", "drawn", "edited"))
    source.write_bytes(png())
    small = ("-W", "64", "-H", "64", "--steps", "2", "--url", glm.url)
    draw, edit = ("draw", "a red circle", "-o", str(drawn)), ("edit", str(source), "make it green", "-o", str(edited))
    for words in (draw, edit):
        ran = run(glm, "imagegen.cli", *words, *small)
        assert ran.returncode == 0, ran.stderr
    assert Image.open(drawn).size == Image.open(edited).size == (64, 64)
    shown = run(glm, "imagegen.cli", "models", "show", "glm-tiny")
    assert "is not read by this model" in shown.stdout


def test_the_mcp_front_draws_and_edits(glm: Service, tmp_path: Path) -> None:
    async def story() -> None:
        async with stdio(glm.url, output_dir=tmp_path) as client:
            drawn = await call(client, "generate_image", prompt="a red ball", **SMALL)
            assert not drawn.is_error and "model glm-tiny" in text_of(drawn), text_of(drawn)
            image = image_id_of(drawn)
            edited = await call(client, "edit_image", prompt="make it green", images=[image], **SMALL)
            assert not edited.is_error and "model glm-tiny" in text_of(edited), text_of(edited)

    fronts.run(story())


def test_nothing_that_was_typed_and_no_path_is_in_the_log(glm: Service) -> None:
    glm.draw("zanzibar 'OPEN'")
    log = glm.log.read_text()
    assert "zanzibar" not in log and "OPEN" not in log and str(glm.home) not in log


def test_unloading_ends_the_process(glm: Service) -> None:
    glm.draw()
    pid = glm.engine_pid
    assert pid is not None
    assert glm.http.post("/api/unload").status_code == 202
    glm.until_state("cold")
    assert gone(pid)

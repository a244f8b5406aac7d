"""`speed`: fast where a model's entry names a cache, refused where it does not, and never in silence without effect."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from served import Service, new_home

from imagegen.models.catalog import Catalog
from imagegen.models.entry_files import CatalogError
from imagegen.settings import Settings

QUICK = """
base = "tiny"
title = "Tiny, with a cache"
[fast]
cache_mode = "easycache"
cache_options = {{ threshold = {threshold} }}
min_steps = 6
"""
STEPS = 6


@pytest.fixture(scope="module")
def quick(models_dir: Path, sd_server: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with tiny, and two entries on its files: one whose cache works, and one that finds nothing to skip."""
    home = new_home(tmp_path_factory.mktemp("speed") / "home", models_dir)
    for name, threshold in (("quick", 2.0), ("thorough", 0.0)):
        (home / "models" / f"{name}.toml").write_text(QUICK.format(threshold=threshold))
    running = Service(home, sd_server, {"model": "quick", "idle_timeout": "never"})
    try:
        running.start()
        yield running
    finally:
        running.end()


def codes(job: dict[str, Any]) -> list[str]:
    return [warning["code"] for warning in job["warnings"]]


def pixels(service: Service, job: dict[str, Any]) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(service.png(job))).convert("RGB"))


@pytest.fixture(scope="module")
def quality(quick: Service) -> dict[str, Any]:
    return quick.draw(steps=STEPS, speed="quality")


@pytest.fixture(scope="module")
def fast(quick: Service) -> dict[str, Any]:
    return quick.draw(steps=STEPS, speed="fast")


def test_fast_draws_another_picture_by_leaving_steps_out(
    quick: Service, quality: dict[str, Any], fast: dict[str, Any]
) -> None:
    assert (quality["params"]["speed"], codes(quality)) == ("quality", [])
    assert (fast["params"]["speed"], codes(fast)) == ("fast", [])
    assert not np.array_equal(pixels(quick, quality), pixels(quick, fast))
    log = quick.log.read_text()
    assert f"job {quality['job_id']} drawn" in log
    drawn = next(line for line in log.splitlines() if f"job {fast['job_id']} drawn" in line)
    assert not drawn.endswith("skipped=0")
    assert b"fast" in quick.png(fast) and b"speed" not in quick.png(quality), "as the picture's own metadata say"


def test_every_way_in_draws_the_same_fast_picture(quick: Service, fast: dict[str, Any], tmp_path: Path) -> None:
    expected = pixels(quick, fast)
    same = {"prompt": "a red circle", "steps": STEPS, "seed": 1, "speed": "fast"}
    task = quick.http.post("/generate", json=same | {"width": 64, "height": 64}).json()
    answer = quick.http.post("/v1/images/generations", json=same | {"size": "64x64"}).json()
    openai = quick.job(answer["job_id"])
    again = quick.http.post("/generate/retry", params={"task_id": task["job_id"]}).json()
    assert quick.http.delete(f"/api/jobs/{again['task_id']}").json()["params"]["speed"] == "fast"
    for job in (task, openai):
        assert job["params"]["speed"] == "fast"
        assert np.array_equal(pixels(quick, job), expected)
    file = tmp_path / "circle.png"
    command = [
        sys.executable,
        "-m",
        "imagegen.cli",
        "draw",
        "a red circle",
        "-W",
        "64",
        "-H",
        "64",
        "--seed",
        "1",
        "--steps",
        str(STEPS),
        "--speed",
        "fast",
        "-o",
        str(file),
        "--url",
        quick.url,
    ]
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"IMAGEGEN_HOME": str(quick.home)})
    assert np.array_equal(np.asarray(Image.open(file).convert("RGB")), expected)


def test_an_edit_can_be_fast_as_a_form_too(quick: Service, quality: dict[str, Any]) -> None:
    form = {"prompt": "make it blue", "image": quality["images"][0]["id"], "steps": str(STEPS), "speed": "fast"}
    answer = quick.http.post("/api/edit", files={name: (None, text) for name, text in form.items()})
    assert answer.status_code == 202, answer.text
    job = quick.ended(answer.json()["job_id"])
    assert (job["status"], job["params"]["speed"], codes(job)) == ("complete", "fast", []), "some steps were left out"


def test_too_few_steps_are_drawn_at_quality_and_that_is_told(quick: Service) -> None:
    job = quick.draw(steps=5, speed="fast")
    assert (job["params"]["speed"], codes(job)) == ("quality", ["speed_without_effect"])
    assert "from 6 on, and this has 5" in job["warnings"][0]["detail"]


def test_a_model_that_has_no_fast_says_why(quick: Service) -> None:
    request = {"prompt": "a red circle", "model": "tiny", "speed": "fast"}
    for path, more in (
        ("/api/generate", {}),
        ("/api/edit", {"images": ["0" * 32]}),
        ("/generate/submit", {}),
        ("/v1/images/generations", {}),
    ):
        refused = quick.http.post(path, json=request | more)
        body = refused.json()
        assert refused.status_code in {400, 422}, path
        assert body.get("code", body.get("error", {}).get("code")) == "not_supported_by_model"
        assert "made for 4 steps" in refused.text
    unknown = quick.http.post("/api/generate", json={"prompt": "a red circle", "speed": "faster"})
    assert (unknown.status_code, unknown.json()["code"]) == (422, "invalid_request")
    models = {model["name"]: model for model in quick.http.get("/api/models").json()["items"]}
    assert models["quick"]["fast"]["cache_mode"] == "easycache"
    assert models["quick"]["fast"]["source"] == "your file quick.toml"
    assert models["tiny"]["fast"]["refused"].startswith("It has the shape of a model that is made for 4 steps")


def test_a_cache_that_left_nothing_out_is_told(quick: Service) -> None:
    job = quick.draw(model="thorough", steps=STEPS, speed="fast")
    assert (job["params"]["speed"], codes(job)) == ("fast", ["speed_without_effect"])


# The entry


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ('cache_mode = "easycash"\nmin_steps = 6', "fast.cache_mode"),
        ('cache_mode = "easycache"\nmin_steps = 6\ncache_options = { treshold = 1 }', "has no option 'treshold'"),
        ('cache_mode = "spectrum"\nmin_steps = 6\ncache_options = { threshold = 1 }', "lam, m, stop"),
        ('cache_mode = "easycache"', "needs cache_mode, min_steps and source"),
        ('refused = "No."\nmin_steps = 6', "has either refused"),
        ('cache_mode = "easycache"\nmin_steps = 6\nsteps = 3', "fast.steps: is not a field"),
    ],
)
def test_a_mistake_in_an_entrys_fast_is_told(tmp_path: Path, table: str, told: str) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine.toml").write_text(f'base = "tiny"\n[fast]\n{table}\n')
    with pytest.raises(CatalogError, match=told):
        Catalog.load(Settings(home=tmp_path))


def test_every_model_that_comes_with_the_service_says_what_fast_is() -> None:
    for entry in Catalog.packaged().entries():
        assert entry.fast is not None, entry.name
        steps = entry.defaults.steps.value
        if entry.fast.cache_mode is None:
            assert entry.no_fast
        else:
            assert entry.fast.min_steps is not None and isinstance(steps, int)
            assert entry.noise or steps >= entry.fast.min_steps, "by default, fast has an effect"

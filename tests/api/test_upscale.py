"""Larger copies by every interface of a running service, with the network that a script makes."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from served import ROOT, Service, until

from imagegen_client import Client

TINY = "upscaler-tiny"


@pytest.fixture(scope="module")
def image(service: Service) -> dict[str, Any]:
    """A drawn picture of 64x64 pixels."""
    return service.draw("a blue cup")["images"][0]


def png(size: tuple[int, int] = (10, 6), mode: str = "RGB") -> bytes:
    held = io.BytesIO()
    Image.new(mode, size, "teal").save(held, "PNG")
    return held.getvalue()


def data_url(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def upscale(service: Service, body: dict[str, Any], **headers: str) -> Any:
    return service.http.post("/api/upscale", json=body, headers={n.replace("_", "-"): v for n, v in headers.items()})


def opened(service: Service, job: dict[str, Any]) -> Image.Image:
    return Image.open(io.BytesIO(service.png(job)))


def test_a_picture_is_enlarged_by_a_network_beside_the_model(service: Service, image: dict[str, Any]) -> None:
    before = service.status()["engine"]["pid"]
    answer = upscale(service, {"image": image["id"], "factor": 2, "model": TINY})
    assert answer.status_code == 202 and answer.headers["location"].endswith(answer.json()["job_id"])
    job = service.ended(answer.json()["job_id"])
    assert (job["status"], job["kind"], job["model"], job["warnings"]) == ("complete", "upscale", TINY, [])
    assert job["params"] == {"width": 128, "height": 128, "n": 1, "factor": 2, "method": "esrgan"}
    assert (job["references"], job["prompt"], job["images"][0]["seed"]) == ([image["id"]], "a blue cup", None)
    assert service.status()["engine"]["pid"] in {before, None}, "another engine was started"
    large = opened(service, job)
    assert (large.size, large.info["upscaler"], large.info["upscale_factor"]) == ((128, 128), TINY, "2")
    assert (large.info["model"], large.info["prompt"]) == ("tiny", "a blue cup")
    assert "Postprocess upscale by: 2" in large.info["parameters"]
    assert job["images"][0]["id"] in [one["id"] for one in service.http.get("/api/images").json()["items"]]
    events = service.http.get(f"/api/jobs/{job['job_id']}/events").text
    assert '"status":"complete"' in events


def test_without_an_upscaler_lanczos_does_it_and_the_job_says_so(service: Service, image: dict[str, Any]) -> None:
    job = service.ended(upscale(service, {"image": image["id"]}).json()["job_id"])
    assert (job["model"], job["params"]["method"], job["images"][0]["width"]) == ("lanczos", "lanczos", 256)
    (warning,) = job["warnings"]
    assert warning["code"] == "enlarged_by_lanczos"
    asked = service.ended(upscale(service, {"image": image["id"], "model": "lanczos"}).json()["job_id"])
    assert asked["warnings"] == [], "asked for by name"


def test_an_upload_is_enlarged_as_a_form_or_a_data_url(service: Service) -> None:
    fields = {"factor": "2", "model": "lanczos"}
    by_form = service.http.post("/api/upscale", data=fields, files={"image": ("a.png", png(), "image/png")}).json()
    by_url = upscale(service, {"image": data_url(png(mode="RGBA")), "factor": 2, "model": TINY}).json()
    for job in (service.ended(by_form["job_id"]), service.ended(by_url["job_id"])):
        large = opened(service, job)
        assert (job["status"], large.size) == ("complete", (20, 12))
        assert "Comment" not in large.info, "a program enlarged it, no model has drawn it"


def test_the_same_key_is_the_same_job(service: Service, image: dict[str, Any]) -> None:
    body = {"image": image["id"], "model": "lanczos"}
    first, again = (upscale(service, body, idempotency_key="larger").json()["job_id"] for _ in range(2))
    assert first == again
    conflict = upscale(service, body | {"factor": 2}, idempotency_key="larger")
    assert (conflict.status_code, conflict.json()["code"]) == (409, "idempotency_conflict")


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({}, "invalid_request", "image is missing"),
    ({"image": "0" * 32}, "unknown_image", "image takes ids"),
    ({"image": data_url(b"no picture")}, "bad_image", "not a picture"),
    ({"image": "{id}", "factor": 3}, "invalid_request", "factor must be 2 or 4"),
    ({"image": "{id}", "factor": 2.0}, "invalid_request", "factor must be 2 or 4"),
    ({"image": "{id}", "factor": True}, "invalid_request", "factor must be 2 or 4"),
    ({"image": "{id}", "prompt": "larger"}, "invalid_request", "'prompt' is not a field"),
    ({"image": "{id}", "model": "tiny"}, "unknown_model", "no upscaler 'tiny'"),
    ({"image": "{id}", "model": "realesrgan-x4plus"}, "model_missing", "imagegen models fetch realesrgan-x4plus"),
    ({"image": "{id}", "lease_s": 1}, "invalid_request", "lease_s is 1"),
    ({"image": "{id}", "webhook": {"url": "http://10.0.0.1/"}}, "webhook_refused", "webhook"),
    ({"image": data_url(png((1100, 1000)))}, "size_out_of_range", "IMAGEGEN_MAX_UPSCALED_PX"),
]


@pytest.mark.parametrize(("body", "code", "says"), REFUSED, ids=[f"{code}-{says}" for _, code, says in REFUSED])
def test_what_cannot_be_enlarged_is_refused_untouched(
    service: Service, image: dict[str, Any], body: dict[str, Any], code: str, says: str
) -> None:
    until(lambda: not any(service.status()["queue"][one] for one in ("queued", "running")), "other tests' jobs end")
    newest = service.http.get("/api/jobs?limit=1").json()["items"][0]["job_id"]
    files = len(list((service.home / "images").iterdir()))
    asked = {name: value.format(id=image["id"]) if value == "{id}" else value for name, value in body.items()}
    answer = upscale(service, asked)
    assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text
    assert says in answer.json()["detail"]
    assert service.http.get("/api/jobs?limit=1").json()["items"][0]["job_id"] == newest
    assert len(list((service.home / "images").iterdir())) == files


def test_the_catalog_lists_the_upscalers_and_models_stay_models(service: Service) -> None:
    catalog = service.http.get("/api/models").json()
    found = {one["name"]: one for one in catalog["upscalers"]}
    assert found["realesrgan-x4plus"]["missing"] == ["RealESRGAN_x4plus.safetensors"]
    assert (found["realesrgan-x4plus"]["installed"], found[TINY]["installed"]) == (False, True)
    assert catalog["caps"]["max_upscaled_px"] == 4096 * 4096
    drawing = {one["name"] for one in catalog["items"]}
    drawing |= {one["id"] for one in service.http.get("/v1/models").json()["data"]}
    assert not drawing & set(found)
    refused = service.http.post("/api/generate", json={"prompt": "a", "model": TINY})
    assert (refused.status_code, refused.json()["code"]) == (422, "unknown_model")


def test_a_task_cannot_be_retried_that_is_an_upscale(service: Service, image: dict[str, Any]) -> None:
    job = service.ended(upscale(service, {"image": image["id"], "model": "lanczos"}).json()["job_id"])
    answer = service.http.post(f"/generate/retry?task_id={job['job_id']}")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def test_the_python_client_enlarges_a_picture(service: Service, tmp_path: Path) -> None:
    with Client(service.url) as client:
        job = client.upscale(png(), factor=2, model=TINY)
        assert job.picture.size == (20, 12)
        assert (job.state.kind, job.state.warnings) == ("upscale", [])
        assert Image.open(job.save(tmp_path / "large.png")).size == (20, 12)


# ---- AUTOMATIC1111 --------------------------------------------------------------------------------


def test_the_web_uis_clients_enlarge_a_picture(service: Service) -> None:
    listed = service.http.get("/sdapi/v1/upscalers").json()
    assert [(one["name"], one["scale"]) for one in listed] == [("Lanczos", 4)]
    body = {
        "image": base64.b64encode(png()).decode(), "upscaling_resize": 2, "upscaler_1": "Lanczos", "resize_mode": 0,
        "show_extras_results": True, "gfpgan_visibility": 0, "codeformer_visibility": 0, "codeformer_weight": 0,
        "upscaling_crop": True, "upscaler_2": "None", "extras_upscaler_2_visibility": 0, "upscale_first": False,
    }  # fmt: skip
    answer = service.http.post("/sdapi/v1/extra-single-image", json=body).json()
    assert Image.open(io.BytesIO(base64.b64decode(answer["image"]))).size == (20, 12)
    assert answer["html_info"] == ""
    noted = service.http.post("/sdapi/v1/extra-single-image", json={"image": body["image"], "colour": "red"}).json()
    assert "Unknown fields have no effect: 'colour'." in noted["html_info"]
    assert "Lanczos' filter" in noted["html_info"]


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"upscaling_resize": 3}, "invalid_request"),
        ({"resize_mode": 1, "upscaling_resize_w": 20}, "invalid_request"),
        ({"gfpgan_visibility": 0.5}, "invalid_request"),
        ({"upscaler_2": "Lanczos"}, "invalid_request"),
        ({"upscaler_1": "R-ESRGAN 4x+"}, "model_missing"),
        ({"upscaler_1": "Nearest"}, "unknown_model"),
        ({"image": ""}, "unknown_image"),
    ],
)
def test_what_would_change_the_picture_is_refused(service: Service, more: dict[str, Any], error: str) -> None:
    body = {"image": base64.b64encode(png()).decode(), "upscaler_1": "Lanczos"} | more
    answer = service.http.post("/sdapi/v1/extra-single-image", json=body)
    assert (answer.status_code, answer.json()["error"]) == (422, error), answer.text


# ---- the command line -----------------------------------------------------------------------------


def imagegen(service: Service, *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "imagegen.cli", "upscale", *map(str, words), "--url", service.url]
    return subprocess.run(command, cwd=ROOT, env=service.environment(), capture_output=True, text=True, timeout=120)


def test_the_command_enlarges_a_file_or_a_picture_of_the_service(
    service: Service, image: dict[str, Any], tmp_path: Path
) -> None:
    source, target = tmp_path / "cup.png", tmp_path / "large.webp"
    source.write_bytes(png())
    done = imagegen(service, source, "-o", target, "--factor", "2", "--model", TINY)
    assert done.returncode == 0, done.stderr
    assert Image.open(target).size == (20, 12)
    assert f"{target}  20x12  {service.url}/images/" in done.stdout and "seed" not in done.stdout
    assert "upscaler: Upscaler, tiny" in done.stderr
    by_id = imagegen(service, image["id"], "-o", tmp_path / "by-id.png")
    assert by_id.returncode == 0 and Image.open(tmp_path / "by-id.png").size == (256, 256)
    assert "note: The picture is enlarged by Lanczos' filter" in by_id.stderr
    gone = imagegen(service, "0" * 32, "-o", tmp_path / "gone.png")
    assert gone.returncode == 1 and "(unknown_image)" in gone.stderr and not (tmp_path / "gone.png").exists()

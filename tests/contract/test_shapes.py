"""The contract: what each route answers, against docs/schemas. Change contract, test and callers in one commit."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator, ValidationError
from PIL import Image
from served import Service
from starlette.routing import Route

from imagegen.http.asgi import make_app
from imagegen.http.routes.session import Sessions
from imagegen.http.sdapi.lists import EMPTY_LISTS
from imagegen.telemetry.metrics import Metrics

SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"
SMALL = {"prompt": "a red circle", "width": 64, "height": 64, "steps": 1, "seed": 1}
NOBODY = "0" * 32


def validate(body: Any, schema: str) -> None:
    loaded = json.loads((SCHEMAS / f"{schema}.json").read_text())
    Draft202012Validator.check_schema(loaded)
    Draft202012Validator(loaded).validate(body)


@pytest.fixture(scope="module")
def drawn(service: Service) -> dict[str, Any]:
    """A complete job."""
    job = service.http.post("/generate", json=SMALL).json()
    assert job["status"] == "complete"
    return job


def png() -> bytes:
    held = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(held, "PNG")
    return held.getvalue()


def b64() -> str:
    return base64.b64encode(png()).decode()


def form(**fields: Any) -> dict[str, Any]:
    return {"data": {"prompt": "make it blue", **fields}, "files": {"image": ("a.png", png(), "image/png")}}


SHAPES: list[tuple[str, str, dict[str, Any], int, str | None]] = [
    ("POST", "/api/generate", {"json": SMALL}, 202, "job"),
    ("POST", "/api/edit", form(steps="1"), 202, "job"),
    ("POST", "/api/variations", {"json": {"job_id": "{job_id}"}}, 202, "job"),
    ("POST", "/api/upscale", {"files": {"image": ("a.png", png(), "image/png")}, "data": {"factor": "2"}}, 202, "job"),
    ("POST", "/api/check", {"json": SMALL}, 200, "check"),
    ("GET", "/api/jobs", {}, 200, "jobs"),
    ("DELETE", "/api/jobs", {"params": {"status": "queued"}}, 200, "jobs"),
    ("GET", "/api/jobs/{job_id}", {}, 200, "job"),
    ("GET", "/api/jobs/{job_id}/events", {}, 200, None),
    ("DELETE", "/api/jobs/{job_id}", {}, 200, "job"),
    ("DELETE", "/api/jobs/{job_id}/lease", {}, 200, "job"),
    ("DELETE", "/api/jobs/{job_id}/draft", {}, 200, "job"),
    ("POST", "/api/images", {"content": png(), "headers": {"content-type": "image/png"}}, 201, "image"),
    ("GET", "/api/images", {}, 200, "images"),
    ("POST", "/api/images/{image_id}/keep", {"json": {"board": "{board}"}}, 200, "image"),
    ("DELETE", "/api/images/{image_id}/keep", {}, 200, "image"),
    ("DELETE", "/api/images/{image_id}", {}, 204, None),
    ("DELETE", "/api/jobs/{job_id}/images", {}, 200, "deleted"),
    ("POST", "/api/images/zip", {"json": {"ids": ["{image_id}"]}}, 200, None),
    ("GET", "/api/boards", {}, 200, "boards"),
    ("PATCH", "/api/boards/{name}", {"json": {"name": "{board}"}}, 200, "boards"),
    ("DELETE", "/api/boards/{name}", {}, 200, "boards"),
    ("POST", "/api/images/inspect", {"content": png(), "headers": {"content-type": "image/png"}}, 200, "inspection"),
    ("POST", "/api/verify", {"content": png(), "headers": {"content-type": "image/png"}}, 200, "provenance"),
    ("GET", "/images/{name}", {}, 200, None),
    ("GET", "/api/status", {}, 200, "status"),
    ("GET", "/api/models", {}, 200, "models"),
    ("GET", "/api/loras", {}, 200, "loras"),
    ("GET", "/api/policy", {}, 200, "policy"),
    ("GET", "/api/templates", {}, 200, "templates"),
    ("DELETE", "/api/models/{name}/fetch", {}, 200, "status"),
    ("GET", "/api/models/{name}/files", {}, 200, "model_files"),
    ("DELETE", "/api/models/{name}/files", {}, 200, "model_files"),
    ("POST", "/api/warm", {}, 202, "status"),
    ("POST", "/api/session", {}, 200, "session"),
    ("DELETE", "/api/session", {}, 204, None),
    ("GET", "/api/openapi.json", {}, 200, None),
    ("POST", "/v1/images/generations", {"json": {"prompt": "x", "size": "64x64", "steps": 1}}, 200, "openai_images"),
    ("POST", "/v1/images/edits", form(size="64x64", steps="1"), 200, "openai_images"),
    (
        "POST",
        "/v1/images/variations",
        {"data": {"size": "64x64", "steps": "1"}, "files": {"image": ("a.png", png(), "image/png")}},
        200,
        "openai_images",
    ),
    ("GET", "/v1/models", {}, 200, "openai_models"),
    ("GET", "/v1/models/{name}", {}, 200, "openai_model"),
    ("POST", "/sdapi/v1/txt2img", {"json": SMALL}, 200, "sdapi_images"),
    ("POST", "/sdapi/v1/img2img", {"json": SMALL | {"init_images": [b64()]}}, 200, "sdapi_images"),
    ("GET", "/sdapi/v1/progress", {}, 200, "sdapi_progress"),
    ("POST", "/sdapi/v1/interrupt", {}, 200, "sdapi_nothing"),
    ("POST", "/sdapi/v1/skip", {}, 200, "sdapi_nothing"),
    ("GET", "/sdapi/v1/options", {}, 200, "sdapi_options"),
    ("POST", "/sdapi/v1/options", {"json": {"sd_model_checkpoint": "tiny", "x": 1}}, 200, "sdapi_warnings"),
    ("GET", "/sdapi/v1/sd-models", {}, 200, "sdapi_models"),
    ("GET", "/sdapi/v1/samplers", {}, 200, "sdapi_samplers"),
    ("GET", "/sdapi/v1/schedulers", {}, 200, "sdapi_schedulers"),
    ("GET", "/sdapi/v1/loras", {}, 200, "sdapi_loras"),
    ("POST", "/sdapi/v1/extra-single-image", {"json": {"image": b64()}}, 200, "sdapi_upscaled"),
    ("GET", "/sdapi/v1/upscalers", {}, 200, "sdapi_upscalers"),
    *(("GET", f"/sdapi/v1/{name}", {}, 200, "sdapi_empty_list") for name in EMPTY_LISTS),
    ("POST", "/sdapi/v1/png-info", {"json": {"image": b64()}}, 200, "sdapi_picture_info"),
    ("GET", "/sdapi/v1/memory", {}, 200, "sdapi_memory"),
    ("GET", "/sdapi/v1/cmd-flags", {}, 200, "sdapi_flags"),
    ("POST", "/generate", {"json": SMALL}, 200, "job"),
    ("POST", "/edit", form(steps="1"), 200, "job"),
    ("GET", "/generate/get", {"params": {"task_id": "{job_id}"}}, 200, "job"),
    ("GET", "/edit/get", {"params": {"task_id": "{job_id}"}}, 200, "job"),
]
"""Method, path, request, status, schema; no schema: the answer is no JSON, or has a schema of its own."""

REFUSALS: list[tuple[str, str, dict[str, Any], int, str]] = [
    ("POST", "/api/generate", {"json": {}}, 422, "problem"),
    ("GET", f"/api/jobs/{NOBODY}", {}, 404, "problem"),
    ("PUT", "/api/status", {}, 405, "problem"),
    ("GET", "/nowhere", {}, 404, "problem"),
    ("POST", "/v1/images/generations", {"json": {}}, 400, "openai_error"),
    ("GET", "/v1/models/none", {}, 404, "openai_error"),
    ("POST", "/sdapi/v1/txt2img", {"json": {}}, 422, "sdapi_error"),
    ("GET", "/sdapi/v1/nothing", {}, 404, "sdapi_error"),
]

ELSEWHERE = {
    "GET /api/jobs/{job_id}/preview",  # test_previews
    *("GET /api/models/{name}/fetch", "POST /api/models/{name}/fetch"),  # test_model_manager, which has a hub
    *("GET /api/events", "POST /api/unload", "GET /metrics"),  # test_events, test_first_picture, test_metrics
    *("GET /", "GET /favicon.ico", "GET /static/{path:path}"),  # the page: its own tests
    *(f"{method} /{kind}/{what}" for kind in ("generate", "edit") for method, what in (
        ("POST", "submit"), ("GET", "status"), ("POST", "retry"), ("PUT", "cancel"),
    )),  # BentoML's own shape: test_task_wire
}  # fmt: skip


def ask_about_kept(service: Service, method: str, path: str, how: dict[str, Any]) -> httpx.Response:
    """Ask about a picture that is kept on a board, which is gone afterwards."""
    sent = service.http.post("/api/images", content=png(), headers={"content-type": "image/png"}).json()["id"]
    board = f"board {sent}"
    service.http.post(f"/api/images/{sent}/keep", json={"board": board})
    how = json.loads(json.dumps(how).replace("{board}", board).replace("{image_id}", sent))
    try:
        return service.http.request(method, path.format(image_id=sent, name=board), **how)
    finally:
        service.http.delete(f"/api/images/{sent}")


def ask(service: Service, drawn: dict[str, Any], method: str, path: str, how: dict[str, Any]) -> httpx.Response:
    if "{image_id}" in path or path.startswith("/api/boards") or path == "/api/images/zip":
        return ask_about_kept(service, method, path, how)
    if path == "/api/jobs/{job_id}/images":
        drawn = service.http.post("/generate", json=SMALL).json()
    models = {"/v1": "tiny", "/api/models": "z-image-turbo"}  # the second has no file here
    picture = f"{drawn['images'][0]['id']}.png"
    name = next((model for prefix, model in models.items() if path.startswith(prefix)), picture)
    path = path.format(job_id=drawn["job_id"], name=name)
    if "task_id" in how.get("params", {}):
        how = how | {"params": {"task_id": drawn["job_id"]}}
    if path == "/api/variations":
        how = {"json": {"job_id": drawn["job_id"]}}
    return service.http.request(method, path, **how)


@pytest.mark.parametrize(
    ("method", "path", "how", "status", "schema"), [*SHAPES, *REFUSALS], ids=lambda v: v if isinstance(v, str) else ""
)
def test_an_answer_has_the_shape_that_is_written_down(
    service: Service, drawn: dict[str, Any], method: str, path: str, how: dict[str, Any], status: int, schema: str
) -> None:
    answer = ask(service, drawn, method, path, how)
    assert answer.status_code == status, answer.text[:2000]
    if schema is not None:
        validate(answer.json(), schema)
    if schema == "problem":
        assert answer.headers["content-type"] == "application/problem+json"
    if method == "POST" and path in {"/api/generate", "/api/edit", "/api/variations"} and status == 202:
        assert answer.headers["location"] == f"/api/jobs/{answer.json()['job_id']}"


def test_every_route_is_held_to_its_shape() -> None:
    app = make_app(Sessions(None, Path("unused")), Metrics())
    routes = {
        f"{method} {route.path}"
        for route in app.routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert {f"{method} {path}" for method, path, *_ in SHAPES} | ELSEWHERE == routes


def test_requests_that_the_schema_refuses_are_refused_and_others_taken(service: Service) -> None:
    for body in ({"prompt": 1}, {"prompt": "x", "promt": "y"}, {"prompt": "x", "width": "64"}, {}):
        with pytest.raises(ValidationError):
            validate(body, "generate_request")
        assert service.http.post("/api/generate", json=body).status_code == 422
    validate(SMALL, "generate_request")


def test_a_field_that_is_not_written_down_would_be_noticed(drawn: dict[str, Any]) -> None:
    validate(drawn, "job")
    with pytest.raises(ValidationError, match="Additional properties"):
        validate(drawn | {"surprise": 1}, "job")
    with pytest.raises(ValidationError, match="is a required property"):
        validate({key: value for key, value in drawn.items() if key != "eta_s"}, "job")

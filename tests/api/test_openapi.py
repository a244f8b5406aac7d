"""The OpenAPI document: every route is in it, and the real service answers as it says (schemathesis tries it)."""

from __future__ import annotations

import io
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import sampled_from
from PIL import Image
from schemathesis import checks
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from served import Service, new_home, until
from starlette.routing import BaseRoute

from imagegen.http.asgi import make_app
from imagegen.http.openapi import described, document
from imagegen.http.operations import OPERATIONS
from imagegen.http.routes.session import Sessions
from imagegen.settings import Settings
from imagegen.telemetry.metrics import Metrics

CONFORMS = [
    checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
EXAMPLES = 6
CAPS: dict[str, object] = {"max_dimension": 64, "max_steps": 1, "max_n": 1, "max_queue": 50}
ENDLESS = "GET /api/events"  # tests/api/test_events.py reads it
KEPT_ONLY = "DELETE /api/jobs/{job_id}/images"
REFUSED_HERE = {
    "GET /api/jobs/{job_id}/preview",  # there while a job runs: tests/api/test_previews.py
    "GET /api/models/{name}/fetch",  # needs a hub: tests/process/test_model_manager.py
    "POST /api/models/{name}/fetch",
}


def routes() -> list[BaseRoute]:
    return make_app(Sessions(None, Path("unused")), Metrics()).routes


DOCUMENT = document(routes(), Settings(**CAPS))
OPERATIONS_OF_IT = {one.ok().label: one.ok() for one in schemathesis.openapi.from_dict(DOCUMENT).get_all_operations()}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, models_dir: Path, sd_server: Path) -> Iterator[Service]:
    """A service of its own, whose largest job is a small one: whatever is asked for is drawn at once."""
    home = new_home(tmp_path_factory.mktemp("small") / "home", models_dir)
    service = Service(home, sd_server, CAPS | {"idle_timeout": "never"})
    service.start()
    yield service
    service.end()


@pytest.fixture(scope="module")
def picture_job(small: Service) -> dict[str, Any]:
    """A job that is there, and with it a picture."""
    return small.draw(steps=1)


def answerable_about_kept(case: schemathesis.Case, small: Service, picture: str) -> None:
    """Keep the job's picture, which then cannot be deleted with the job's others, and an upload, which can be."""
    assert small.http.post(f"/api/images/{picture}/keep").is_success
    upload = small.http.post("/api/images", content=png(), headers={"content-type": "image/png"}).json()["id"]
    assert small.http.post(f"/api/images/{upload}/keep", json={"board": upload}).is_success
    for name, value in (("image_id", upload), ("name", upload)):
        if name in case.path_parameters:
            case.path_parameters[name] = value
    bodies = {
        "POST /api/images/{image_id}/keep": {"note": "a circle"},
        "POST /api/images/zip": {"ids": [picture]},
        "PATCH /api/boards/{name}": {"name": upload},
    }
    if case.operation.label in bodies:
        case.body = bodies[case.operation.label]


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    return buffer.getvalue()


def answerable(case: schemathesis.Case, small: Service, job: dict[str, Any]) -> None:
    """Make a request one that can be answered: about things that are there, of a size that is drawn."""
    picture = job["images"][0]["id"]
    for name, value in (("job_id", job["job_id"]), ("name", "tiny" if "models" in case.path else f"{picture}.png")):
        if name in case.path_parameters:
            case.path_parameters[name] = value
    if "model" in case.query:
        case.query["model"] = "tiny"
    if "Idempotency-Key" in case.headers:
        case.headers["Idempotency-Key"] = secrets.token_hex(8)  # that of another request would be refused
    body = case.body
    if case.path.startswith(("/api/boards/", "/api/images/")) or case.operation.label == KEPT_ONLY:
        answerable_about_kept(case, small, picture)
    elif case.operation.label == "POST /api/variations":
        case.body = {"job_id": job["job_id"]}
    elif case.operation.label == "POST /api/upscale":
        case.body = {"image": picture, "factor": 2, "model": "lanczos"}
    elif isinstance(body, dict) and ("prompt" in body or case.path == "/v1/images/variations"):
        body |= {"prompt": "a red circle", "model": "tiny"}
        for name in ("width", "height", "size", "negative", "output_compression", "mask", "stream"):
            body.pop(name, None)
        for name in {"images", "image", "init_images"} & body.keys():
            body[name] = [picture]
    elif case.operation.label == "POST /sdapi/v1/extra-single-image":
        case.body = {"image": picture, "upscaler_1": "Lanczos"}
    elif case.operation.label == "POST /sdapi/v1/options":
        case.body = {"sd_model_checkpoint": "tiny"}
    elif case.operation.label in {"POST /api/images", "POST /api/images/inspect", "POST /api/verify"}:
        case.body = {"image": png()} if isinstance(body, dict) else png()


@pytest.mark.parametrize("label", sorted(OPERATIONS_OF_IT.keys() - {ENDLESS}))
def test_whatever_is_asked_the_answer_is_as_described(label: str, small: Service, picture_job: dict[str, Any]) -> None:
    seen: set[int] = set()
    until(lambda: not any(small.status()["queue"][name] for name in ("queued", "running")), "the queue is empty")

    @settings(
        max_examples=EXAMPLES, derandomize=True, deadline=None, database=None, suppress_health_check=[*HealthCheck]
    )
    @given(case=OPERATIONS_OF_IT[label].as_strategy(), can_be=sampled_from([True, False]))
    def ask(case: schemathesis.Case, can_be: bool) -> None:
        if can_be:
            answerable(case, small, picture_job)
        if "wait" in case.query:
            case.query["wait"] = 0
        answer = case.call_and_validate(base_url=small.url, checks=CONFORMS, timeout=60)
        seen.add(answer.status_code)

    ask()
    assert label in REFUSED_HERE or min(seen) < 300, f"only refusals: {seen}"


def test_no_schema_of_the_document_is_named_after_a_module() -> None:
    """pydantic puts the module's path before the names of two models that are called the same."""
    assert [name for name in DOCUMENT["components"]["schemas"] if "__" in name] == []


def test_the_service_serves_the_document(small: Service) -> None:
    served = small.http.get("/api/openapi.json").json()
    assert served == DOCUMENT | {"servers": [{"url": small.url}]}, "the address that was called"


def test_every_route_is_described() -> None:
    found = described(routes())
    assert {route.path for route in found} >= {"/api/generate", "/images/{name}", "/v1/images/edits"}
    missing = [f"{route.methods} {route.path}" for route in found if route.endpoint not in OPERATIONS]
    assert not missing, "describe it in imagegen/http/operations.py"
    unused = set(OPERATIONS) - {route.endpoint for route in found}
    assert not unused, "it is described, and no route leads to it"
    for route in found:
        for method in route.methods - {"HEAD"}:
            assert method.lower() in DOCUMENT["paths"][route.path], f"{method} {route.path}"


def test_the_document_has_this_services_caps() -> None:
    other = document(routes(), Settings(max_dimension=512, max_n=2, max_prompt_chars=99))
    fields = other["components"]["schemas"]["GenerateRequest"]["properties"]
    assert (fields["prompt"]["maxLength"], fields["n"]["maximum"]) == (99, 2)
    assert fields["width"]["anyOf"][0]["maximum"] == 512

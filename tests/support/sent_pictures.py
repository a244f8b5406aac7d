"""Pictures to send to an admission without a worker, and the ways to send them."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any

from PIL import Image
from starlette.testclient import TestClient
from state_folder import NothingKnown, State

from imagegen.admission.controller import AdmissionController
from imagegen.jobs.durations import Durations
from imagegen.models.catalog import Catalog
from imagegen.models.loras.folder import LoraFolder
from imagegen.prompts.guardrails import Guardrails
from imagegen.settings import Settings


def admission(state: State) -> AdmissionController:
    chosen = Settings(home=state.folder)
    return AdmissionController(
        chosen,
        Catalog.load(chosen),
        Guardrails.load(None),
        state.images,
        state.jobs,
        Durations(),
        "tiny",
        NothingKnown(),
        LoraFolder(chosen),
    )


def saved(image: Image.Image, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def data_url(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


RED, GREEN = Image.new("RGB", (32, 32), "red"), Image.new("RGB", (32, 32), "green")
LARGE = Image.new("RGBA", (2100, 2100), (255, 0, 0, 0))  # more than admission keeps
PICTURES: list[tuple[tuple[str, ...], bytes]] = [
    ((), saved(RED, "PNG")),
    (("transparency_on_white",), saved(Image.new("RGBA", (32, 32), (255, 0, 0, 99)), "PNG")),
    (("first_frame_only",), saved(RED, "GIF", save_all=True, append_images=[GREEN])),
    (("reference_reduced",), saved(LARGE.convert("L"), "PNG")),
    (("colour_profile_dropped",), saved(RED, "PNG", icc_profile=b"not a profile")),
    (
        ("colour_profile_dropped", "first_frame_only", "reference_reduced", "transparency_on_white"),
        saved(LARGE, "PNG", save_all=True, append_images=[LARGE.rotate(9)], icc_profile=b"not a profile"),
    ),
]


FIELDS = {"prompt": "make it blue", "steps": 1}
Send = Callable[[TestClient, bytes], dict[str, Any]]


def answered(answer: Any) -> dict[str, Any]:
    assert answer.status_code in {200, 201, 202}, answer.text
    body: dict[str, Any] = answer.json()
    return body


def upload(desk: TestClient, data: bytes) -> dict[str, Any]:
    return answered(desk.post("/api/images", content=data, headers={"content-type": "image/png"}))


def upload_in_a_form(desk: TestClient, data: bytes) -> dict[str, Any]:
    return answered(desk.post("/api/images", files={"image": ("a.png", data)}))

"""How a request is read: one value for each name, no encoded bodies, byte-order marks, tags, doubled slashes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from refusals import ask, untouched
from served import Service

JSON = {"content-type": "application/json"}
RED = '"prompt": "a red circle"'
ID = "0" * 32
JSON_ROUTES = [
    *("/api/generate", "/api/edit", "/api/check", "/api/upscale", "/api/variations", "/generate", "/edit/submit"),
    *("/v1/images/generations", "/v1/images/edits"),
    *("/sdapi/v1/txt2img", "/sdapi/v1/img2img", "/sdapi/v1/extra-single-image", "/sdapi/v1/png-info"),
]
FORM_ROUTES = ["/api/edit", "/api/upscale", "/api/variations", "/v1/images/edits", "/v1/images/variations", "/edit"]


@pytest.fixture(autouse=True)
def nothing_happens(service: Service) -> Iterator[None]:
    with untouched(service):
        yield


# ---- one value for each name ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", JSON_ROUTES)
@pytest.mark.parametrize(
    ("body", "name"),
    [
        (f'{{{RED}, "prompt": "a blue circle"}}', "prompt"),
        (f"{{{RED}, {RED}}}", "prompt"),
        (f'{{{RED}, "\\u0070rompt": "a blue circle"}}', "prompt"),
        (f'{{{RED}, "seed": 1, "seed": {"9" * 4000}}}', "seed"),
        (f'{{{RED}, "images": [{{"image_url": "a", "image_url": "b"}}]}}', "image_url"),
    ],
)
def test_json_with_a_name_twice_is_refused(service: Service, path: str, body: str, name: str) -> None:
    answer = ask(service, "POST", path, content=body, headers=JSON)
    assert (answer.status, answer.code) == (400 if path.startswith("/v1") else 422, "invalid_request")
    assert answer.detail == f"The body gives '{name}' more than once. Send one value for each name."


@pytest.mark.parametrize("path", FORM_ROUTES)
@pytest.mark.parametrize("name", ["prompt", "seed", "mask", "size"])
def test_a_form_with_a_name_twice_is_refused(service: Service, path: str, name: str) -> None:
    parts = [("prompt", (None, "red")), (name, (None, "1")), (name, (None, "2")), ("image", (None, ID))]
    answer = ask(service, "POST", path, files=parts)
    assert answer.code == "invalid_request"
    assert answer.detail == f"The form gives '{name}' more than once. Send one value for each name."


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/jobs?limit=1&limit=2"),
        ("GET", "/api/jobs?limit=1&%6cimit=1"),
        ("GET", f"/api/jobs/{ID}?wait=1&wait=2"),
        ("GET", "/api/images?before=1&before="),
        ("GET", f"/images/{ID}.png?w=32&w=64"),
        ("GET", "/api/events?presence=0&presence=0"),
        ("GET", "/api/policy?model=tiny&model=tiny"),
        ("POST", "/api/warm?model=tiny&model=tiny"),
        ("GET", "/generate/status?task_id=1&task_id=2"),
        ("PUT", "/edit/cancel?task_id=1&task_id=2"),
    ],
)
def test_a_query_with_a_name_twice_is_refused(service: Service, method: str, path: str) -> None:
    answer = ask(service, method, path)
    assert (answer.status, answer.code) == (422, "invalid_request")
    assert answer.detail.startswith("The query string gives '")


def test_v1_json_with_image_and_images_is_refused(service: Service) -> None:
    body = {"prompt": "red", "image": ID, "images": [ID]}
    answer = ask(service, "POST", "/v1/images/edits", json=body)
    assert (answer.status, answer.code) == (400, "invalid_value")
    assert "both image and images" in answer.detail


# ---- encoded bodies -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["gzip", "br", "identity, gzip", "made-up"])
@pytest.mark.parametrize("path", [*JSON_ROUTES, "/api/images"])
def test_an_encoded_body_is_refused(service: Service, path: str, encoding: str) -> None:
    content = json.dumps({"prompt": "red"}).encode()
    sent = service.http.post(path, content=content, headers=JSON | {"content-encoding": encoding})
    assert sent.status_code == 415
    assert sent.headers["accept-encoding"] == "identity"
    assert "Content-Encoding" in sent.text


@pytest.mark.parametrize("header", ["Content-Encoding: gzip", "Content-Transfer-Encoding: base64"])
@pytest.mark.parametrize("path", [*FORM_ROUTES, "/api/images"])
def test_an_encoded_part_of_a_form_is_refused(service: Service, path: str, header: str) -> None:
    part = f'--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n{header}\r\n\r\naaaa\r\n--b--\r\n'
    headers = {"content-type": "multipart/form-data; boundary=b"}
    answer = ask(service, "POST", path, content=part.encode(), headers=headers)
    assert (answer.status, answer.code) == (415, "unsupported_media_type")
    assert "'image' is encoded" in answer.detail


@pytest.mark.parametrize("encoding", ["identity", ""])
def test_no_encoding_by_name_is_read(service: Service, encoding: str) -> None:
    answer = ask(service, "POST", "/api/generate", content="{}", headers=JSON | {"content-encoding": encoding})
    assert answer.detail == "prompt is missing."


# ---- byte-order marks, seeds, slashes -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b'\xef\xbb\xbf{"steps": 1}', 422, "prompt is missing."),
        (b"\xef\xbb\xbf\xef\xbb\xbf{}", 400, "The body is not JSON"),
        ('{"prompt": "red"}'.encode("utf-16"), 400, "byte-order mark of UTF-16. Send JSON as UTF-8."),
        (b"\xfe\xff\x00{\x00}", 400, "byte-order mark of UTF-16. Send JSON as UTF-8."),
    ],
)
def test_a_byte_order_mark(service: Service, body: bytes, status: int, words: str) -> None:
    answer = ask(service, "POST", "/api/generate", content=body, headers=JSON)
    assert answer.status == status
    assert words in answer.detail


@pytest.mark.parametrize("path", ["/api/generate", "/generate"])
def test_a_seed_out_of_range_says_to_leave_it_out(service: Service, path: str) -> None:
    answer = ask(service, "POST", path, json={"prompt": "red", "seed": -1})
    assert answer.detail == "seed is -1; 0 to 4294967295 is allowed. Leave seed out for a random one."


@pytest.mark.parametrize("path", ["//v1/models", "///v1/images/edits", "/v1//models", "//v1", "/v1"])
def test_an_address_like_openais_is_refused_in_its_shape(service: Service, path: str) -> None:
    answer = service.http.get(f"{service.url}{path}")
    assert answer.status_code == 404
    error: dict[str, Any] = answer.json()["error"]
    assert error["code"] == "not_found"
    assert ("Write one slash" in error["message"]) == ("//" in path)

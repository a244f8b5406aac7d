"""Requests that every route refuses: by a sentence and a code, with the engine untouched and memory flat."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from refusals import ask, flood, peak_bytes, refusal_in, untouched
from served import Service

MIB = 2**20
RED = "a red circle"
JSON_ROUTES = ["/api/generate", "/api/edit", "/v1/images/generations", "/v1/images/edits", "/generate", "/edit/submit"]
DIGITS = "9" * 4000


@pytest.fixture(autouse=True)
def nothing_happens(service: Service) -> Iterator[None]:
    """No test of this file makes a job, wakes the engine or leaves a file behind."""
    with untouched(service):
        yield


# ---- values ---------------------------------------------------------------------------------------------------

VALUES: list[tuple[dict[str, Any], str, str]] = [
    ({}, "invalid_request", "prompt is missing."),
    ({"prompt": ""}, "invalid_request", "The prompt is empty"),
    ({"prompt": " \n\t "}, "invalid_request", "The prompt is empty"),
    ({"prompt": None}, "invalid_request", "prompt must be text."),
    ({"prompt": ["a"]}, "invalid_request", "prompt must be text."),
    ({"prompt": "a" * 33_000}, "prompt_too_long", "has 33,000 characters; at most 4,000"),
    ({"prompt": "," * 33_000}, "prompt_too_long", "Shorten it by 29,000."),
    ({"prompt": "a\x00b"}, "invalid_request", "U+0000 at index 1"),
    ({"prompt": "a\x1b[31m"}, "invalid_request", "U+001B at index 1"),
    ({"negative": "b\x07"}, "invalid_request", "negative prompt"),
    ({"negative": "b" * 33_000}, "prompt_too_long", "negative prompt has 33,000"),
    ({"width": "64"}, "invalid_request", "width must be a whole number."),
    ({"width": True}, "invalid_request", "width must be a whole number."),
    ({"width": 64.0}, "invalid_request", "width must be a whole number."),
    ({"width": -64}, "size_out_of_range", "width is -64; tiny takes 64 to 512 px."),
    ({"width": 0}, "size_out_of_range", "width is 0"),
    ({"height": 513}, "size_out_of_range", "height is 513; tiny takes 64 to 512 px."),
    ({"model": "sketch", "width": 1024, "height": 1024}, "size_out_of_range", "width is 1024; sketch takes 128 px."),
    ({"height": 10**18}, "size_out_of_range", "tiny takes 64 to 512"),
    ({"steps": 0}, "invalid_request", "steps is 0; 1 to 100 is allowed."),
    ({"steps": 100_000}, "invalid_request", "steps is 100000; 1 to 100"),
    ({"steps": "20"}, "invalid_request", "steps must be a whole number."),
    ({"seed": -1}, "invalid_request", "seed is -1; 0 to 4294967295"),
    ({"seed": 2**32}, "invalid_request", "seed is 4294967296"),
    ({"cfg_scale": "1"}, "invalid_request", "cfg_scale must be a number."),
    ({"cfg_scale": False}, "invalid_request", "cfg_scale must be a number."),
    ({"cfg_scale": 1e308}, "invalid_request", "cfg_scale is 1e+308; 0 to 30"),
    ({"cfg_scale": -0.1}, "invalid_request", "cfg_scale is -0.1"),
    ({"sampler": "fast"}, "invalid_request", "sampler must be one of euler,"),
    ({"speed": "fast"}, "not_supported_by_model", "tiny has no fast setting. It has the shape"),
    ({"speed": "faster"}, "invalid_request", "speed"),
    ({"n": 5}, "invalid_request", "n is 5; 1 to 4"),
    ({"n": 0}, "invalid_request", "n is 0"),
    ({"n": True}, "invalid_request", "n must be a whole number."),
    ({"lease_s": 4.5}, "invalid_request", "lease_s is 4.5; 5 to 3600"),
    ({"model": "gpt"}, "unknown_model", "There is no model 'gpt'."),
    ({"model": "../../etc/passwd"}, "unknown_model", "There is no model"),
    ({"model": "m" * 100_000}, "unknown_model", "mmm…'"),
    ({"model": 7}, "invalid_request", "model must be text."),
    ({"webhook": "https://hooks.example/"}, "invalid_request", "webhook must be a JSON object."),
    ({"widht": 64}, "invalid_request", "'widht' is not a field of this request."),
    ({"images": []}, "invalid_request", "'images' is not a field"),
    ({"f" * 100_000: 1}, "invalid_request", "fff…' is not a field"),
    ({f"k{i}": 1 for i in range(9)}, "invalid_request", "'k0', 'k1', 'k2', 'k3', 'k4' are not fields"),
]


@pytest.mark.parametrize(("fields", "code", "words"), VALUES, ids=lambda value: str(value)[:40])
def test_a_value_out_of_bounds_is_refused_by_name(
    service: Service, fields: dict[str, Any], code: str, words: str
) -> None:
    request = fields if "prompt" in fields or not fields else {"prompt": RED} | fields
    answer = ask(service, "POST", "/api/generate", json=request)
    assert (answer.status, answer.code) == (422, code)
    assert words in answer.detail
    assert len(answer.detail) < 2000, "what was sent is not sent back"


EDITS: list[tuple[dict[str, Any], str, str]] = [
    ({}, "invalid_request", "images is missing."),
    ({"images": []}, "invalid_request", "images must not be empty."),
    ({"images": "0" * 32}, "invalid_request", "images must be a list."),
    ({"images": [7]}, "invalid_request", "images.0 must be text."),
    ({"images": ["0" * 32] * 20}, "invalid_request", "images has 20 entries; at most"),
    ({"images": ["0" * 32]}, "unknown_image", "one is neither"),
    ({"images": ["../../etc/passwd"]}, "unknown_image", "one is neither"),
    ({"images": ["file:///etc/passwd"]}, "unknown_image", "one is neither"),
    ({"images": ["http://127.0.0.1/a.png"]}, "unknown_image", "one is neither"),
    ({"images": ["\x00"]}, "unknown_image", "one is neither"),
    ({"images": ["data:text/html;base64,AAAA"]}, "bad_image", "data:image/png;base64"),
    ({"images": ["data:image/png;base64,A A="]}, "bad_image", "base64 is damaged"),
    ({"images": ["0" * 32], "fit": "zoom"}, "invalid_request", "fit must be one of 'contain', 'cover' or 'stretch'."),
    ({"images": ["0" * 32], "mask": "../x"}, "unknown_image", "one is neither"),
    ({"images": ["0" * 32], "denoise": 1}, "invalid_request", "'denoise' is not a field"),
    ({"images": ["0" * 32], "strength": 1.01}, "invalid_request", "strength is 1.01; 0 to 1 is allowed."),
    ({"images": ["0" * 32], "strength": -1}, "invalid_request", "strength is -1.0; 0 to 1 is allowed."),
    ({"images": ["0" * 32], "strength": "1"}, "invalid_request", "strength must be a number."),
    ({"images": ["0" * 32], "strength": 1, "model": "glm-tiny"}, "strength_not_supported", "glm-tiny takes its"),
]


@pytest.mark.parametrize(("fields", "code", "words"), EDITS, ids=lambda value: str(value)[:40])
def test_an_edit_of_nothing_is_refused(service: Service, fields: dict[str, Any], code: str, words: str) -> None:
    answer = ask(service, "POST", "/api/edit", json={"prompt": RED} | fields)
    assert (answer.status, answer.code) == (422, code)
    assert words in answer.detail


@pytest.mark.parametrize("names", [("webhook", "webhook.url"), ("webhook.secret", "webhook")], ids=str)
def test_a_form_whose_webhook_is_also_text_is_refused(service: Service, names: tuple[str, str]) -> None:
    form = {"prompt": RED, **dict.fromkeys(names, "https://hooks.example/")}
    answer = ask(service, "POST", "/api/edit", data=form, files={"image": (None, "0" * 32)})
    assert (answer.status, answer.code) == (422, "invalid_request")
    assert "webhook" in answer.detail


# ---- JSON -----------------------------------------------------------------------------------------------------

BODIES: list[tuple[str, bytes, int, str]] = [
    ("nothing", b"", 400, "bad_json"),
    ("half an object", b'{"prompt": "a"', 400, "bad_json"),
    ("NaN", b'{"prompt": "a", "cfg_scale": NaN}', 400, "bad_json"),
    ("infinity", b'{"prompt": "a", "cfg_scale": -Infinity}', 400, "bad_json"),
    ("a number of 100,000 digits", b'{"prompt": "a", "seed": ' + b"9" * 100_000 + b"}", 400, "bad_json"),
    ("invalid UTF-8", b'{"prompt": "\xff\xfe"}', 400, "bad_json"),
    ("half a surrogate", rb'{"prompt": "\ud800"}', 400, "bad_json"),
    ("UTF-16", '{"prompt": "a"}'.encode("utf-16"), 400, "bad_json"),
    ("arrays, 100,000 deep", b"[" * 100_000, 400, "bad_json"),
    ("objects, 100,000 deep", b'{"a":' * 100_000 + b"1" + b"}" * 100_000, 400, "bad_json"),
    ("an array", b'[{"prompt": "a"}]', 422, "invalid_request"),
    ("a text", b'"a red circle"', 422, "invalid_request"),
    ("null", b"null", 422, "invalid_request"),
    ("three million numbers", b'{"images": [' + b"1," * 3_000_000 + b"1]}", 422, "invalid_request"),
    ("a million fields", b'{"a":1' + b',"a":1' * 1_000_000 + b"}", 422, "invalid_request"),
]


@pytest.mark.parametrize("path", JSON_ROUTES)
@pytest.mark.parametrize(("body", "status", "code"), [one[1:] for one in BODIES], ids=[one[0] for one in BODIES])
def test_a_body_that_is_no_request_is_refused(service: Service, path: str, body: bytes, status: int, code: str) -> None:
    answer = ask(service, "POST", path, content=body, headers={"content-type": "application/json"})
    assert answer.status == (400 if path.startswith("/v1/") else status)
    assert answer.code == code or path.startswith("/v1/")
    assert len(answer.detail) < 400


NUMBERS = [
    ('"cfg_scale": 1e999', "invalid_request", "cfg_scale must be a finite number."),
    (f'"cfg_scale": {DIGITS}', "invalid_request", "cfg_scale must be"),
    (f'"width": {DIGITS}', "size_out_of_range", "99999999999999999999…; tiny"),
    (f'"seed": -{DIGITS}', "invalid_request", "-9999999999999999999…; 0 to"),
    ('"width": 1e3', "invalid_request", "width must be a whole number."),
    ('"width": 64, "width": 99999', "invalid_request", "gives 'width' more than once"),
]


@pytest.mark.parametrize(("field", "code", "words"), NUMBERS)
def test_numbers_that_python_could_not_write(service: Service, field: str, code: str, words: str) -> None:
    body = f'{{"prompt": "a", {field}}}'
    answer = ask(service, "POST", "/api/generate", content=body, headers={"content-type": "application/json"})
    assert (answer.status, answer.code) == (422, code)
    assert words in answer.detail


@pytest.mark.parametrize("path", [*JSON_ROUTES, "/api/images"])
@pytest.mark.parametrize("kind", [None, "", "text/plain", "application/x-www-form-urlencoded", "application/xml"])
def test_another_content_type_is_refused(service: Service, path: str, kind: str | None) -> None:
    headers = {} if kind is None else {"content-type": kind}
    answer = ask(service, "POST", path, content=json.dumps({"prompt": RED}).encode(), headers=headers)
    assert answer.status == 415
    assert "Content-Type: " in answer.detail or path.startswith("/v1/")


@pytest.mark.parametrize("key", ["", "k" * 129, "a\tb", "clé"])
def test_an_idempotency_key_that_is_none(service: Service, key: str) -> None:
    headers = {"idempotency-key": key.encode("latin-1")}
    answer = ask(service, "POST", "/api/generate", json={"prompt": RED}, headers=headers)
    assert (answer.status, answer.code) == (422, "invalid_request")
    assert "1 to 128 printable" in answer.detail


# ---- forms ----------------------------------------------------------------------------------------------------


def form(*parts: tuple[str, str]) -> dict[str, Any]:
    return {"files": [(name, (None, value)) for name, value in parts]}


def edit(*more: tuple[str, str]) -> dict[str, Any]:
    """The form of an edit, and more fields."""
    return form(("prompt", RED), ("image", "0" * 32), *more)


def raw_form(kind: str) -> dict[str, Any]:
    """A body that is no form, with this content type."""
    return {"content": b"x" * 1000, "headers": {"content-type": kind}}


FORMS: list[tuple[str, dict[str, Any], str, str]] = [
    ("no boundary", raw_form("multipart/form-data"), "invalid_request", "boundary"),
    ("garbage", raw_form("multipart/form-data; boundary=z"), "invalid_request", "cannot be read"),
    ("200 files", {"files": [("image", ("a.png", b"x"))] * 200}, "invalid_request", "Too many files"),
    ("200 fields", form(*[(f"f{i}", "x") for i in range(200)]), "invalid_request", "Too many fields"),
    ("a field of 2 MB", form(("prompt", "x" * 2 * MIB)), "invalid_request", "exceeded maximum size"),
    ("no picture", form(("prompt", RED)), "invalid_request", "images must not be empty."),
    ("a text for a number", edit(("steps", "many")), "invalid_request", "steps"),
    ("other digits", edit(("steps", "１２")), "invalid_request", "steps must"),
    ("an exponent", edit(("cfg_scale", "1e999")), "invalid_request", "finite"),
    ("NaN", edit(("cfg_scale", "nan")), "invalid_request", "must be a number."),
    ("many digits", edit(("seed", "9" * 100_000)), "invalid_request", "seed must"),
    ("unknown field", edit(("denoise", "1")), "invalid_request", "'denoise' is not"),
    ("a file elsewhere", {"files": [("prompt", ("a.txt", b"x"))]}, "invalid_request", "'prompt' is a file"),
    ("an unknown picture", form(("prompt", RED), ("image", "../x")), "unknown_image", "one is neither"),
    ("no prompt", form(("image", "0" * 32)), "invalid_request", "prompt is missing."),
]


@pytest.mark.parametrize(("sent", "code", "words"), [one[1:] for one in FORMS], ids=[one[0] for one in FORMS])
def test_a_form_that_is_no_edit_is_refused(service: Service, sent: dict[str, Any], code: str, words: str) -> None:
    answer = ask(service, "POST", "/api/edit", **sent)
    assert (answer.status, answer.code) == (422, code)
    assert words in answer.detail


UPLOADS: list[tuple[str, dict[str, Any], str]] = [
    ("no file", form(("image", "0" * 32)), "Send one picture"),
    ("no part", form(("other", "x")), "'other' is not a field"),
    ("two files", {"files": [("image", ("a.png", b"x")), ("image", ("b.png", b"x"))]}, "Send one picture"),
    ("a field more", {"files": [("image", ("a.png", b"x"))], "data": {"prompt": RED}}, "'prompt' is not a field"),
]


@pytest.mark.parametrize(("sent", "words"), [one[1:] for one in UPLOADS], ids=[one[0] for one in UPLOADS])
def test_a_form_that_is_no_upload_is_refused(service: Service, sent: dict[str, Any], words: str) -> None:
    answer = ask(service, "POST", "/api/images", **sent)
    assert (answer.status, answer.code) == (422, "invalid_request")
    assert words in answer.detail


# ---- 200 MB ---------------------------------------------------------------------------------------------------


FORM = "multipart/form-data; boundary=z"
LARGE = [(path, "application/json") for path in [*JSON_ROUTES, "/nothing/here"]]
LARGE += [("/api/edit", FORM), ("/api/images", FORM), ("/api/images", "image/png"), ("/api/generate", "text/plain")]


@pytest.mark.parametrize(("path", "kind"), LARGE)
@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
def test_200_mb_are_refused_while_they_arrive(service: Service, path: str, kind: str, chunked: bool) -> None:
    start = b'--z\r\ncontent-disposition: form-data; name="image"; filename="a.png"\r\n\r\n' if kind == FORM else b""
    with peak_bytes(service.worker) as grown:
        answer, sent = flood(service, path, kind, start=start, size=200 * MIB, chunked=chunked)
    assert answer.status in ({413, 415, 404} if chunked else {413})
    if answer.status == 413:
        assert "IMAGEGEN_MAX_BODY_BYTES" in answer.detail
    assert sent < 25 * MIB + 16 * MIB, "the rest was not taken"  # what fits into the sockets' buffers is sent, not read
    assert grown() < 80 * MIB


def test_a_body_that_breaks_off_is_no_error_of_the_service(service: Service) -> None:
    head = b"POST /api/generate HTTP/1.1\r\nhost: localhost\r\n"
    head += b"content-type: application/json\r\ncontent-length: 999\r\n\r\n"
    before = service.log.read_text(errors="replace").count("internal error")
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
        connection.sendall(head + b'{"prompt"')
    assert service.http.get("/api/status").status_code == 200
    assert service.log.read_text(errors="replace").count("internal error") == before


# ---- addresses ------------------------------------------------------------------------------------------------

NO_ID = "0" * 32
REFUSED: dict[tuple[int, str], list[str]] = {
    (404, "not_found"): [
        *("GET /nothing", "GET /api/jobs/", "GET /api//jobs", "GET /api/../etc/passwd"),
        *("GET /images/../../etc/passwd", "GET /images/..%2f..%2fetc%2fpasswd"),
    ],
    (404, "image_not_found"): [
        *("GET /images/%2e%2e.png", "GET /images/%00.png", f"GET /images/{'A' * 32}.png"),
        *(f"GET /images/{NO_ID}{ending}" for ending in (".png", ".gif", ".png%00.jpg")),
        *(f"{method} /api/images/{NO_ID}/keep" for method in ("POST", "DELETE")),
        *("POST /api/images/x/keep", f"DELETE /api/images/{NO_ID}", "DELETE /api/images/%2e%2e"),
    ],
    (404, "job_not_found"): [
        *(f"GET /api/jobs/{name}" for name in ("%2e%2e", "%ff%fe", "%00", "'%20OR%201=1--", "j" * 50_000, "x/events")),
        *("DELETE /api/jobs/x", "DELETE /api/jobs/x/lease", f"DELETE /api/jobs/{NO_ID}/images"),
    ],
    (404, "board_not_found"): ["DELETE /api/boards/%00", "DELETE /api/boards/none"],
    (405, "method_not_allowed"): [
        *("PUT /api/generate", "GET /api/generate", "OPTIONS /api/generate", "DELETE /api/images"),
        *("POST /api/status", "GET /api/warm", "TRACE /api/status", "BREW /api/jobs/x"),
    ],
    (422, "unknown_model"): ["GET /api/policy?model=gpt"],
    (422, "invalid_request"): [
        *(f"GET /images/{NO_ID}.png?w={width}" for width in ("-1", "99999999999999999999", "1e2")),
        *(f"GET /api/jobs/x?wait={seconds}" for seconds in ("51", "%D9%A1")),
        *(
            f"GET /api/jobs?{query}"
            for query in ("limit=0", "limit=201", "limit=", "before=-1", f"before={'9' * 5000}")
        ),
        *(f"GET /api/images?{query}" for query in ("limit=many", "before=1.5", "cursor=x", "cursor=2&before=2")),
        *(f"GET /api/images?{query}" for query in ("promt=red", f"q={'a' * 201}", "kind=drawing", "kept=yes")),
        *(f"GET /api/images?from={time}" for time in ("yesterday", "1700000000")),
        *(f"GET /api/images?to={time}" for time in ("2027-02-30", "2027-02-03T25:00:00Z")),
        *(f"GET /api/images?{query}" for query in ("board=a/b", "min_size=0", "max_size=1e3")),
        "GET /api/events?presence=2",
    ],
}
ADDRESSES = [(*answer, target) for answer, targets in REFUSED.items() for target in targets]
"""Status, code, and the method with its target."""


@pytest.mark.parametrize(("status", "code", "target"), ADDRESSES, ids=lambda value: str(value)[:60])
def test_addresses_and_methods_that_lead_nowhere(service: Service, status: int, code: str, target: str) -> None:
    answer = refusal_in(raw(service, f"{target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode()))
    assert (answer.status, answer.code) == (status, code)
    assert len(answer.detail) < 400


def test_a_405_names_every_method_of_the_address(service: Service) -> None:
    for path, methods in (("/api/images", "GET, HEAD, POST"), ("/api/jobs/x", "DELETE, GET, HEAD")):
        answer = service.http.patch(path)
        assert (answer.status_code, answer.headers["allow"]) == (405, methods)
        assert methods in answer.json()["detail"]


def test_head_is_get_without_the_body(service: Service) -> None:
    for path in ("/api/status", "/api/jobs", "/api/models"):
        answer = service.http.head(path)
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-type"] == "application/json"
    missing = service.http.head("/api/jobs/x")
    assert (missing.status_code, missing.content) == (404, b"")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /api/jobs/\xff\xfe HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET /api/status HTTP/1.1\r\nhost: localhost\r\nx: " + b"x" * 1_000_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 1_000_000 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"POST /api/generate HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=["not ASCII", "a header of 1 MB", "an address of 1 MB", "a negative length", "TLS"],
)
def test_what_is_not_http_is_answered_and_the_service_goes_on(service: Service, request_bytes: bytes) -> None:
    answer = raw(service, request_bytes)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert service.http.get("/readyz").status_code == 200


def raw(service: Service, request: bytes) -> bytes:
    """What the service says to exactly these bytes before it closes the connection."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        received = b""
        try:
            connection.sendall(request)
            while data := connection.recv(65_536):
                received += data
        except ConnectionError:
            pass  # it closed before it had read all: what it said is here
    return received

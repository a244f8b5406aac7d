"""The lock: who is let in, by which name, from which page, how often. On a real service with tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from refusals import bearer, refused
from served import Service, new_home, until

ANNA, BERT, GREEDY = ("a-token-of-anna-0", "a-token-of-bert-0", "a-token-of-greedy")
OBSIDIAN = "app://obsidian.md"
PICTURE = f"/images/{'0' * 32}"


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory, models_dir: Path, sd_server: Path) -> Iterator[Service]:
    home = new_home(tmp_path_factory.mktemp("locked") / "home", models_dir)
    listed = f"anna:{ANNA},bert:{BERT},greedy:{GREEDY}"
    limits = {"rate_limit_per_s": 4, "max_queue_per_token": 2, "max_job_s": 10**9}
    settings = {
        "tokens": listed,
        "allowed_hosts": "pictures.example",
        "strict_openai": 1,
        "cors_origins": OBSIDIAN,
    } | limits
    service = Service(home, sd_server, settings)
    service.start()
    yield service
    service.end()


# ---- who is let in ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/readyz", "/livez", "/healthz", "/", "/static/x.js", f"{PICTURE}.png", f"{PICTURE}.webp"]
)
def test_open_without_a_token(locked: Service, path: str) -> None:
    assert locked.http.get(path).status_code != 401
    assert locked.http.options(path).status_code != 401


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("GET", path) for path in ("/api/status", "/api/jobs", "/api/images", "/metrics", "/docs.json", "/nowhere")),
        *(("GET", path) for path in ("/images/", "/images/x.png", f"{PICTURE}.png/", f"{PICTURE}.gif")),
        *(
            ("GET", path)
            for path in ("/schema.json", "/static", "/static/../api/status", "/%61pi/status", "/API/status")
        ),
        *(("POST", path) for path in ("/", "/readyz", "/api/generate", "/api/session", "/generate", f"{PICTURE}.png")),
        ("DELETE", "/api/jobs/x"),
    ],
)
def test_everything_else_needs_one(locked: Service, method: str, path: str) -> None:
    answer = locked.http.request(method, path)
    assert "imagegen token new" in refused(answer, 401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_openai_clients_are_refused_in_their_own_shape(locked: Service) -> None:
    answer = locked.http.get("/v1/models")
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "unauthorized"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"style": "vivid"}, "unsupported_value"),
        ({"colour": "red"}, "unknown_parameter"),
        ({"negative_prompt": "hats"}, "unknown_parameter"),
        ({"ref_images": ["a"]}, "unknown_parameter"),
        ({"width": 64}, "unknown_parameter"),
        ({"seed": -1}, "invalid_request"),
        ({"output_compression": 50}, "unsupported_value"),
    ],
)
def test_a_strict_service_refuses_what_has_no_effect(locked: Service, body: dict, code: str) -> None:
    url = "/v1/images/generations"
    answer = locked.http.post(url, json={"prompt": "a red circle"} | body, headers=bearer(ANNA))
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)


def test_a_strict_service_takes_no_bare_base64(locked: Service) -> None:
    body = {"prompt": "make it blue", "image": "A" * 80}
    answer = locked.http.post("/v1/images/edits", json=body, headers=bearer(ANNA))
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unknown_image")


def test_a_right_token_lets_in_and_a_wrong_one_does_not(locked: Service) -> None:
    assert locked.http.get("/api/status", headers=bearer(ANNA)).status_code == 200
    assert locked.http.get("/metrics", headers=bearer(BERT)).status_code == 200
    assert locked.http.get("/api/status", headers={"authorization": f"bearer  {ANNA}"}).status_code == 200
    assert locked.http.get("/sdapi/v1/options", auth=("anybody", ANNA)).status_code == 200
    assert locked.http.get("/api/status", auth=("anybody", ANNA)).status_code == 401
    basic = {"authorization": f"Basic {ANNA}"}
    for headers in (bearer(ANNA[:-1]), bearer(ANNA + "0"), bearer(":"), bearer("é" * 20), basic):
        sent = {name: value.encode() for name, value in headers.items()}
        refused(locked.http.get("/api/status", headers=sent), 401, "unauthorized")


@pytest.mark.parametrize(
    "address",
    [
        *(f"?x=1&{name}={ANNA}" for name in ("token", "access_token", "API_KEY", "api%5Fkey", "api-key", "%20token")),
        *(f"?{separated}token={ANNA}" for separated in ("", ";", "a=1;", "a=1;b=2&", "a=1&;")),
        f"?a=1;access_token={ANNA}",
        f";token={ANNA}",
        "?token",
    ],
)
def test_a_token_in_the_address_is_refused_even_a_right_one(locked: Service, address: str) -> None:
    answer = locked.http.get(f"/api/status{address}", headers=bearer(ANNA))
    assert "header" in refused(answer, 400, "invalid_request")
    assert ANNA not in answer.text


def test_owners_are_told_apart(locked: Service) -> None:
    """Idempotency keys are per token: the same key of two tokens makes two jobs."""
    ids = set()
    for token, prompt in ((ANNA, "one"), (BERT, "two"), (ANNA, "one")):
        body = {"prompt": prompt, "width": 64, "height": 64, "steps": 1}
        answer = locked.http.post("/api/generate", json=body, headers=bearer(token) | {"idempotency-key": "k"})
        assert answer.status_code == 202, answer.text
        ids.add(answer.json()["job_id"])
    assert len(ids) == 2
    assert locked.http.get(f"/api/jobs/{ids.pop()}", headers=bearer(BERT)).status_code == 200


# ---- sessions -----------------------------------------------------------------------------------


def test_a_token_is_swapped_for_a_cookie_and_given_back(locked: Service) -> None:
    begun = locked.http.post("/api/session", headers=bearer(ANNA) | {"sec-fetch-site": "same-origin"})
    locked.http.cookies.clear()
    assert begun.json()["name"] == "anna"
    cookie = begun.headers["set-cookie"]
    assert re.search("httponly", cookie, re.I)
    assert re.search("samesite=strict", cookie, re.I)
    others = 'a[b]=1; {"no": "cookie"}; x=é'  # of other services on this host: browsers tell no ports apart
    value = {"cookie": f"{others}; {cookie.split(';')[0]}".encode()}
    assert ANNA not in cookie
    assert locked.http.get("/api/jobs", headers=value).status_code == 200
    assert locked.http.post("/api/warm", headers=value).status_code == 202
    both = value | {"authorization": b"Bearer " + b"wrong" * 5}
    refused(locked.http.get("/api/jobs", headers=both), 401, "unauthorized")
    ended = locked.http.delete("/api/session")
    assert ended.status_code == 204
    assert "max-age=0" in ended.headers["set-cookie"].lower()


# ---- hosts and origins --------------------------------------------------------------------------


def test_own_names_and_allowed_ones_are_answered(locked: Service) -> None:
    for host in (
        "localhost",
        f"LOCALHOST:{locked.port}",
        "[::1]:80",
        "127.0.0.2",
        "localhost.",
        "pictures.example:443",
    ):
        assert locked.http.get("/readyz", headers={"host": host}).status_code == 200, host
    proxied = {"host": "127.0.0.1", "origin": "https://pictures.example"} | bearer(ANNA)
    refused(locked.http.delete("/api/jobs/x", headers=proxied), 404, "job_not_found")


def test_a_named_origin_may_call_and_read(locked: Service) -> None:
    """The rules are tested in tests/unit/http/test_callers.py; here, that the service has them."""
    page = {"origin": OBSIDIAN, "sec-fetch-site": "cross-site"}
    preflight = page | {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    asked = locked.http.options("/v1/images/generations", headers=preflight)
    assert (asked.status_code, asked.headers["access-control-allow-headers"]) == (204, "authorization")
    refused_one = locked.http.post("/v1/images/generations", headers=page)
    body = {"prompt": "a red circle", "size": "0x0"}
    let_in = locked.http.post("/v1/images/generations", headers=page | bearer(ANNA), json=body)
    assert [refused_one.json()["error"]["code"], let_in.json()["error"]["code"]] == ["unauthorized", "invalid_value"]
    for answer in (asked, refused_one, let_in):
        assert answer.headers["access-control-allow-origin"] == OBSIDIAN


def test_a_client_in_a_container_gets_addresses_that_it_can_reach(locked: Service) -> None:
    called = {"host": f"imagegen:{locked.port}"}
    detail = refused(locked.http.get("/api/openapi.json", headers=called), 403, "foreign_host")
    assert "IMAGEGEN_ALLOWED_HOSTS" in detail
    described = locked.http.get("/api/openapi.json", headers=called | bearer(ANNA)).json()
    assert described["servers"] == [{"url": f"http://imagegen:{locked.port}"}]


# ---- how much -----------------------------------------------------------------------------------


def test_too_many_requests_of_one_token_wait_and_those_of_others_do_not(locked: Service) -> None:
    def limited() -> bool:
        answer = locked.http.get("/api/jobs/x", headers=bearer(GREEDY))
        if answer.status_code != 429:
            return False
        assert int(answer.headers["retry-after"]) >= 1
        refused(answer, 429, "rate_limited")
        return True

    until(limited, "a greedy client is told to wait", every=0)
    assert locked.http.get("/api/status", headers=bearer(BERT)).status_code == 200


def test_one_token_cannot_fill_the_queue(locked: Service) -> None:
    body = {"prompt": "a long job", "width": 512, "height": 512, "steps": 100, "n": 4}
    answers = [locked.http.post("/api/generate", json=body, headers=bearer(ANNA)) for _ in range(4)]
    other = locked.http.post("/api/generate", json=body, headers=bearer(BERT))
    for answer in (*answers, other):
        if answer.status_code == 202:
            locked.http.delete(f"/api/jobs/{answer.json()['job_id']}", headers=bearer(BERT))
    assert "token anna" in refused(answers[-1], 429, "queue_full")
    assert "retry-after" in answers[-1].headers
    assert other.status_code == 202, "the other token has room of its own"


# ---- a service that may not start ---------------------------------------------------------------


def test_the_service_does_not_start_beyond_loopback_without_a_token(home: Path, sd_server: Path) -> None:
    service = Service(home, sd_server, {"host": "0.0.0.0"})
    service.launch()
    assert service.wait() != 0
    assert "imagegen token new" in service.tail()
    assert "Traceback" not in service.tail()

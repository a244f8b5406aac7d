"""Behind a reverse proxy that strips a path prefix: every address that the service gives works for the caller."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx
import pytest
from PIL import Image
from proxy import reverse_proxy
from served import MakeService, Service, new_home

TOKEN = "a-token-of-32-characters-0123456"
BEARER = {"authorization": f"Bearer {TOKEN}"}
SMALL = {"prompt": "a red circle", "width": 64, "height": 64, "steps": 1, "seed": 7}
SMALL_V1 = {"prompt": "a red circle", "size": "64x64", "steps": 1, "response_format": "url"}


def _png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(file, "PNG")
    return file.getvalue()


PNG = _png()


def client(**more: Any) -> httpx.Client:
    return httpx.Client(timeout=60, trust_env=False, **more)


@pytest.fixture
def trusting(serve: MakeService) -> Service:
    return serve(trusted_proxies="127.0.0.1, ::1", allowed_hosts="pictures.example", tokens=f"me:{TOKEN}")


def draw(http: httpx.Client, base: str) -> dict[str, Any]:
    """A job through `base`, read to its end by its own event stream."""
    accepted = http.post(f"{base}/api/generate", json=SMALL, headers=BEARER)
    assert accepted.status_code == 202
    assert accepted.headers["location"] == f"{urlsplit(base).path}/api/jobs/{accepted.json()['job_id']}"
    where = urljoin(base, accepted.headers["location"])
    assert http.get(where, headers=BEARER).status_code == 200
    jobs = [json.loads(line[6:]) for line in events(http, f"{where}/events") if line.startswith("data: ")]
    assert jobs[-1]["status"] == "complete"
    return dict(jobs[-1])


def events(http: httpx.Client, url: str) -> Iterator[str]:
    with http.stream("GET", url, headers=BEARER) as stream:
        yield from stream.iter_lines()


def test_every_address_through_a_proxy_that_strips_a_prefix_works(trusting: Service) -> None:
    forwarded = {"X-Forwarded-Prefix": "/draw/", "X-Forwarded-Proto": "http"}
    with reverse_proxy(trusting.port, "/draw", forwarded) as base, client() as http:
        forwarded["X-Forwarded-Host"] = urlsplit(base).netloc
        job = draw(http, base)
        assert job["url"] == job["images"][0]["url"]
        assert job["url"].startswith(f"{base}/images/")
        picture = http.get(job["url"])
        assert picture.headers["content-type"] == "image/png"
        assert http.get(job["url"], headers={"if-none-match": f"W/{picture.headers['etag']}"}).status_code == 304

        uploaded = http.post(
            f"{base}/api/images", content=picture.content, headers=BEARER | {"content-type": "image/png"}
        ).json()
        listed = http.get(f"{base}/api/jobs?limit=1", headers=BEARER).json()["items"][0]
        gallery = http.get(f"{base}/api/images?limit=1", headers=BEARER).json()["items"][0]
        for one in (uploaded, listed, gallery):
            assert http.get(one["url"]).status_code == 200
            assert one["url"].startswith(f"{base}/images/")

        drawn = http.post(f"{base}/v1/images/generations", json=SMALL_V1, headers=BEARER).json()["data"][0]
        assert drawn["url"].startswith(f"{base}/images/")
        direct = drawn["url"].replace(base, trusting.url)
        for url in (drawn["url"], direct.replace("127.0.0.1", "LOCALHOST")):
            edit = SMALL_V1 | {"images": [{"image_url": url}]}
            answer = http.post(f"{base}/v1/images/edits", json=edit, headers=BEARER)
            assert (answer.status_code == 200) == (url == drawn["url"]), answer.text


def test_the_page_and_the_session_stay_under_the_prefix(trusting: Service) -> None:
    forwarded = {"X-Forwarded-Prefix": "/draw", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "pictures.example"}
    with reverse_proxy(trusting.port, "/draw", forwarded) as base, client() as http:
        page = http.get(f"{base}/").text
        links = re.findall(r'(?:href|src)="([^"]+)"', page)
        assert links
        for link in links:
            assert http.get(urljoin(f"{base}/", link)).status_code == 200, link
        origin = {"origin": "https://pictures.example"}
        begun = http.post(f"{base}/api/session", headers=BEARER | origin)
        assert begun.status_code == 200
        cookie = [part.strip() for part in begun.headers["set-cookie"].split(";")]
        assert {"Path=/draw", "Secure", "HttpOnly"} <= set(cookie)
        ended = http.delete(f"{base}/api/session", headers=origin)
        assert "Path=/draw" in ended.headers["set-cookie"]
        servers = http.get(f"{base}/api/openapi.json", headers=BEARER).json()["servers"]
        assert servers == [{"url": "https://pictures.example/draw"}]
        refused = http.post(f"{base}/api/session", headers=BEARER | {"origin": "https://other.example"})
        assert refused.json()["code"] == "foreign_origin"


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"X-Forwarded-Host": "evil.example"}, 403, "foreign_host"),
        ({"X-Forwarded-Host": "pictures.example, evil.example"}, 403, "foreign_host"),
        ({"X-Forwarded-Host": "evil.example, pictures.example"}, 200, None),
        ({"X-Forwarded-Host": "pictures.example/x"}, 400, "invalid_request"),
        ({"X-Forwarded-Prefix": "draw"}, 400, "invalid_request"),
        ({"X-Forwarded-Prefix": "/a; Domain=x"}, 400, "invalid_request"),
        ({"X-Forwarded-Prefix": "//evil.example"}, 400, "invalid_request"),
        ({"X-Forwarded-Proto": "javascript"}, 400, "invalid_request"),
        ({"X-Forwarded-Prefix": "/"}, 200, None),
        ({"X-Forwarded-For": "192.0.2.1"}, 200, None),
    ],
)
def test_what_a_trusted_proxy_says_is_checked(
    trusting_shared: Service, headers: dict[str, str], status: int, code: str | None
) -> None:
    answer = trusting_shared.http.get("/api/status", headers=headers)
    assert answer.status_code == status, answer.text
    assert answer.json().get("code") == code


@pytest.fixture(scope="module")
def trusting_shared(tmp_path_factory: pytest.TempPathFactory, models_dir: Any, sd_server: Any) -> Iterator[Service]:
    home = new_home(tmp_path_factory.mktemp("trusting") / "home", models_dir)
    shared = Service(home, sd_server, {"trusted_proxies": "127.0.0.1", "allowed_hosts": "pictures.example"})
    shared.start()
    yield shared
    shared.end()


def test_forwarded_headers_of_a_peer_that_is_not_named_are_ignored(service: Service) -> None:
    """Also X-Forwarded-Proto from loopback, which uvicorn believes by default."""
    forged = {"X-Forwarded-Prefix": "/draw", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"}
    listed = service.http.post("/api/images", content=PNG, headers=forged | {"content-type": "image/png"}).json()
    assert listed["url"] == f"{service.url}/images/{listed['id']}.png"


def test_the_public_address_counts_before_all_headers(serve: MakeService) -> None:
    mine = serve(public_url="https://pictures.example/draw/", trusted_proxies="127.0.0.1", tokens=f"me:{TOKEN}")
    sent = {"X-Forwarded-Prefix": "/other", "host": "pictures.example"} | BEARER | {"content-type": "image/png"}
    uploaded = mine.http.post("/api/images", content=PNG, headers=sent | {"origin": "https://pictures.example"}).json()
    assert uploaded["url"] == f"https://pictures.example/draw/images/{uploaded['id']}.png"
    for url in (uploaded["url"], f"{mine.url}/images/{uploaded['id']}.png"):
        edit = SMALL_V1 | {"images": [{"image_url": url}]}
        answer = mine.http.post("/v1/images/edits", json=edit, headers=BEARER)
        assert answer.status_code == 200, answer.text
        assert answer.json()["data"][0]["url"].startswith("https://pictures.example/draw/images/")
    other = edit | {"images": [{"image_url": f"https://pictures.example/images/{uploaded['id']}.png"}]}
    assert mine.http.post("/v1/images/edits", json=other, headers=BEARER).status_code == 400

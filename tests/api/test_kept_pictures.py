"""Keep, find, delete and pack pictures of a running service, as a client does."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from secrets import token_hex
from typing import Any

import httpx
import pytest
from PIL import Image
from served import Service

JSON = {"content-type": "application/json"}


@pytest.fixture
def word() -> str:
    """A word that is in no other test's prompt, and the name of a board."""
    return f"w{token_hex(6)}"


@pytest.fixture
def job(service: Service, word: str) -> Iterator[dict[str, Any]]:
    """Two drawn pictures, gone after the test."""
    job = service.draw(f"a {word} cup", n=2)
    yield job
    for image in job["images"]:
        service.http.delete(f"/api/images/{image['id']}")


def keep(service: Service, image: dict[str, Any], **wish: Any) -> httpx.Response:
    return service.http.post(f"/api/images/{image['id']}/keep", json=wish)


def found(service: Service, **query: Any) -> list[str]:
    answer = service.http.get("/api/images", params=query)
    assert answer.status_code == 200, answer.text
    return [one["id"] for one in answer.json()["items"]]


def test_a_kept_picture_is_found_and_released(service: Service, job: dict[str, Any], word: str) -> None:
    first, second = job["images"]
    kept = keep(service, first, board=word, note="the best").json()
    assert kept == first | {"kept_at": kept["kept_at"], "board": word, "note": "the best", "expires_at": None}
    assert kept["kept_at"] is not None
    read = service.http.get(f"/api/jobs/{job['job_id']}").json()
    assert (read["images"], read["expires_at"], read["prompt"]) == ([kept, second], None, job["prompt"])
    boards = service.http.get("/api/boards").json()
    assert {"name": word, "count": 1, "url": first["url"]} in boards["items"]
    assert boards["kept"] <= boards["max"] == 1000
    for query in ({"board": word}, {"q": f"best {word}"}, {"q": word, "kept": "1"}):
        assert found(service, **query) == [first["id"]]
    assert found(service, q=word, kept="0") == [second["id"]]
    [listed] = service.http.get("/api/images", params={"board": word}).json()["items"]
    assert listed == kept | {"kind": "generate", "model": "tiny", "prompt": job["prompt"]}
    renamed = service.http.patch(f"/api/boards/{word}", json={"name": f"{word} 2"})
    assert f"{word} 2" in [board["name"] for board in renamed.json()["items"]]
    released = service.http.delete(f"/api/images/{first['id']}/keep").json()
    assert (released["kept_at"], released["board"], released["note"]) == (None, None, None)
    assert released["expires_at"] > first["created_at"]
    assert found(service, q=word) == [second["id"], first["id"]]


def test_a_picture_is_kept_without_a_body_and_twice(service: Service, job: dict[str, Any]) -> None:
    path = f"/api/images/{job['images'][0]['id']}/keep"
    first = service.http.post(path)
    assert first.status_code == 200 and first.json()["board"] is None
    assert service.http.post(path).json() == first.json()


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ('{"bord": "x"}', 422, "invalid_request"),
        ('{"board": 1}', 422, "invalid_request"),
        ('{"board": "a/b"}', 422, "invalid_request"),
        ('{"note": "\\u0000"}', 422, "invalid_request"),
        ("[]", 422, "invalid_request"),
        ("{", 400, "bad_json"),
    ],
)
def test_a_wrong_wish_keeps_nothing(service: Service, job: dict[str, Any], body: str, status: int, code: str) -> None:
    path = f"/api/images/{job['images'][0]['id']}/keep"
    answer = service.http.post(path, content=body, headers=JSON)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert service.http.get(f"/api/jobs/{job['job_id']}").json()["images"] == job["images"]


def test_pages_follow_each_other_by_either_name(service: Service, job: dict[str, Any], word: str) -> None:
    first, second = job["images"]
    for name in ("cursor", "before"):
        page = service.http.get("/api/images", params={"q": word, "limit": 1}).json()
        assert [one["id"] for one in page["items"]] == [second["id"]]
        page = service.http.get("/api/images", params={"q": word, "limit": 1, name: page["next"]}).json()
        assert [one["id"] for one in page["items"]] == [first["id"]]
        page = service.http.get("/api/images", params={"q": word, "limit": 1, name: page["next"]}).json()
        assert page == {"items": [], "next": None}


def test_dates_include_the_day_that_they_name(service: Service, job: dict[str, Any], word: str) -> None:
    at = job["images"][0]["created_at"]
    day, both = at[:10], [one["id"] for one in reversed(job["images"])]
    assert found(service, q=word, **{"from": day, "to": day}) == both
    assert found(service, q=word, **{"from": at}) == both
    assert found(service, q=word, **{"from": at.replace("Z", "+00:00"), "to": "2999-12-31"}) == both
    assert found(service, q=word, to=at) == []
    assert found(service, q=word, to="9999-12-31", min_size=64, max_size=64, model="tiny", kind="generate") == both
    assert found(service, q=word, min_size=65) == []


def test_deleted_pictures_take_their_job_with_them(service: Service, job: dict[str, Any], word: str) -> None:
    first, second = job["images"]
    assert keep(service, first).status_code == 200
    deleted = service.http.delete(f"/api/jobs/{job['job_id']}/images").json()
    assert deleted == {"deleted": [second["id"]], "kept": [first["id"]]}
    assert service.http.get(f"/images/{second['id']}.png").json()["code"] == "expired"
    assert found(service, q=word) == [first["id"]]
    answer = service.http.delete(f"/api/images/{first['id']}")
    assert (answer.status_code, answer.content) == (204, b"")
    for path in (f"/images/{first['id']}.png", f"/api/jobs/{job['job_id']}"):
        answer = service.http.get(path)
        assert (answer.status_code, answer.json()["code"]) == (410, "expired")
    assert service.http.delete(f"/api/images/{first['id']}").status_code == 410


def test_an_archive_holds_the_pictures_in_order_and_whole(service: Service, job: dict[str, Any]) -> None:
    ids = [one["id"] for one in job["images"]]
    answer = service.http.post("/api/images/zip", json={"ids": [*reversed(ids), ids[0]]})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/zip")
    assert "content-length" not in answer.headers, "it is streamed"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert [name.rpartition("-")[2] for name in names] == [f"{one[:12]}.png" for one in reversed(ids)]
        for name, one in zip(names, reversed(ids), strict=True):
            data = archive.read(name)
            assert data == service.http.get(f"/images/{one}.png").content
            assert Image.open(io.BytesIO(data)).size == (64, 64)


@pytest.mark.parametrize(
    ("ids", "status", "code"),
    [
        ([], 422, "invalid_request"),
        ([1], 422, "invalid_request"),
        ([f"{number:032x}" for number in range(201)], 422, "invalid_request"),
        (["0" * 32], 404, "image_not_found"),
        (["../../etc/passwd"], 404, "image_not_found"),
    ],
    ids=["none", "a number", "too many", "unknown", "a path"],
)
def test_an_archive_that_cannot_be_whole_is_refused(service: Service, ids: list[Any], status: int, code: str) -> None:
    answer = service.http.post("/api/images/zip", json={"ids": ids})
    assert (answer.status_code, answer.json()["code"]) == (status, code)

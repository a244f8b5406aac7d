"""Previews of running jobs, and drafts, through the shared service with the real engine and the tiny model."""

from __future__ import annotations

import io
from typing import Any

import httpx
import pytest
from event_stream import listening
from PIL import Image
from served import Service, until

LONG = {"steps": 100, "width": 256, "height": 128, "n": 4}
"""Pictures of seconds each, which are cancelled."""


def preview_of(service: Service, job: dict[str, Any], **headers: str) -> httpx.Response:
    return service.http.get(f"/api/jobs/{job['job_id']}/preview", headers=headers)


def cancel(service: Service, job: dict[str, Any]) -> dict[str, Any]:
    return service.http.delete(f"/api/jobs/{job['job_id']}").json()


def test_a_running_job_shows_its_newest_preview_until_it_ends(service: Service) -> None:
    job = service.submit(preview="auto", **LONG)
    until(lambda: preview_of(service, job).status_code == 200, "the first preview is there")
    view = service.job(job["job_id"])["preview"]
    assert view["url"].startswith(f"{service.url}/api/jobs/{job['job_id']}/preview?")
    assert (view["image"], view["steps"]) == (1, 100)
    assert 1 <= view["step"] < 100
    seen = service.http.get(view["url"])
    assert (seen.headers["content-type"], seen.headers["cache-control"]) == ("image/jpeg", "no-store")
    picture = Image.open(io.BytesIO(seen.content))
    assert (picture.format, picture.size) == ("JPEG", (256, 128))
    until(lambda: preview_of(service, job).headers.get("etag") != seen.headers["etag"], "a newer one is there")
    with service.engine_held(job["job_id"]):

        def known() -> bool:
            etag = preview_of(service, job).headers["etag"]
            return preview_of(service, job, **{"If-None-Match": etag}).status_code == 304

        until(known, "the newest preview is not sent twice")
    cancel(service, job)
    gone = preview_of(service, job)
    assert (gone.status_code, gone.json()["code"]) == (404, "preview_not_found")
    assert service.job(job["job_id"])["preview"] is None


def test_both_event_streams_announce_each_preview_with_its_step(service: Service) -> None:
    with listening(service, "/api/events") as everything:
        next(everything)
        job = service.submit(preview=5, **LONG)
        with listening(service, f"/api/jobs/{job['job_id']}/events") as own:
            heard = {
                "own": next(event for event in own if event.name == "preview"),
                "everything": next(event for event in everything if event.name == "preview"),
            }
        cancel(service, job)
    for name, event in heard.items():
        assert event.data["job_id"] == job["job_id"], name
        assert event.data.keys() == {"job_id", "url", "image", "step", "steps"}, name
        assert event.data["step"] % 5 == 0, name
    assert heard["own"].id is None, "its ids are the job's revisions"
    assert heard["everything"].id is not None


def test_without_the_field_no_preview_and_with_it_the_same_picture(service: Service) -> None:
    plain = service.submit(steps=6, seed=5)
    with listening(service, f"/api/jobs/{plain['job_id']}/events") as own:
        assert {event.name for event in own} == {"job"}
    shown = service.draw(steps=6, seed=5, preview=1)
    assert service.unsigned(shown) == service.unsigned(service.ended(plain["job_id"]))
    assert "preview" not in shown["params"]


@pytest.mark.parametrize("wish", [0, -1, 1001, 1.5, True, "on", "2", [], {}])
def test_a_wish_that_means_nothing_is_refused(service: Service, wish: Any) -> None:
    answer = service.http.post("/api/generate", json={"prompt": "a bell", "preview": wish})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert answer.json()["detail"] == 'preview must be "off", "auto" or a whole number from 1 to 1000.'


def test_a_form_may_ask_for_previews_and_for_a_draft(service: Service) -> None:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "teal").save(file, "PNG")
    form = {"prompt": "make it red", "steps": "100", "width": "256", "height": "256", "preview": "1", "draft": "true"}
    answer = service.http.post("/api/edit", data=form, files={"image": file.getvalue()})
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert job["draft"]
    until(lambda: preview_of(service, job).status_code == 200, "its first preview is there")
    cancel(service, job)
    for field, value in (("draft", "yes"), ("preview", "often")):
        refused = service.http.post("/api/edit", data=form | {field: value}, files={"image": file.getvalue()})
        assert refused.json()["detail"].startswith(f"{field} must be "), refused.text


def test_a_draft_gives_way_to_the_next_job_and_is_in_no_list(service: Service) -> None:
    draft = service.submit(draft=True, **LONG | {"n": 1})
    assert draft["draft"]
    refused = service.http.post("/api/generate", json={"prompt": "a bell", "draft": True})
    assert (refused.status_code, refused.json()["code"]) == (409, "busy")
    job = service.draw()
    assert service.job(draft["job_id"])["status"] == "cancelled"
    several = service.http.post("/api/generate", json={"prompt": "a bell", "draft": True, "n": 2})
    assert several.json()["detail"] == "n is 2; a draft is one picture."

    drawn = service.draw(draft=True)
    listed = service.http.get("/api/jobs").json()["items"]
    pictures = service.http.get("/api/images").json()["items"]
    assert job["job_id"] in {one["job_id"] for one in listed}
    assert not {drawn["job_id"], draft["job_id"]} & {one["job_id"] for one in [*listed, *pictures]}

    kept = service.http.delete(f"/api/jobs/{drawn['job_id']}/draft").json()
    assert (kept["draft"], kept["images"][0]["id"]) == (False, drawn["images"][0]["id"])
    assert kept["expires_at"] > drawn["expires_at"]
    assert service.http.get("/api/images").json()["items"][0]["job_id"] == drawn["job_id"]

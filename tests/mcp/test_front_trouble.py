"""Whatever goes wrong is a tool error with a sentence, and a picture is never lost by it."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sys
import time

import pytest
import recording_engine
from fastmcp import Client
from fastmcp.client.transports import StdioTransport
from fronts import (
    SMALL,
    after,
    call,
    environment,
    image_id_of,
    preview_of,
    reply,
    run,
    stand_in,
    text_of,
    within,
)
from served import free_port, until

from mcp_front.results import Results

UNKNOWN = "0123456789abcdef0123456789abcdef"
TOOLS = [
    ("generate_image", {"prompt": "x"}),
    ("edit_image", {"prompt": "x", "images": [UNKNOWN]}),
    ("submit_async_job", {"prompt": "x"}),
    ("get_job_status", {"job_id": UNKNOWN}),
    ("get_job_result", {"job_id": UNKNOWN}),
    ("cancel_job", {"job_id": UNKNOWN}),
    ("list_templates", {}),
    ("list_models", {}),
    ("list_images", {}),
    ("upscale_image", {"image": UNKNOWN}),
    ("keep_image", {"image_id": UNKNOWN}),
    ("read_image_chunk", {"image_id": UNKNOWN}),
]


def refusals(url, calls=TOOLS, **settings):
    """What each call is refused with."""

    async def story():
        async with within(url, **settings) as client:
            results = [await call(client, tool, **arguments) for tool, arguments in calls]
        assert all(result.is_error for result in results), results
        return [text_of(result) for result in results]

    return run(story())


def test_a_service_that_is_down_is_a_sentence_that_says_what_to_do():
    url = f"http://127.0.0.1:{free_port()}"
    for said in refusals(url):
        assert url in said and "cannot be reached" in said
        assert "imagegen serve" in said and "IMAGEGEN_URL" in said


@pytest.mark.parametrize("status", [200, 404, 502])
def test_a_service_that_answers_html_is_not_the_service(status):
    with stand_in(lambda h: reply(h, status, "text/html; charset=utf-8", b"<html>Welcome to nginx")) as url:
        for said in refusals(url):
            assert "is not the image service" in said and f"HTTP {status}" in said and "IMAGEGEN_URL" in said
            assert "<html>" not in said


def test_json_that_means_nothing_here_is_said_to_be_so():
    with stand_in(lambda h: reply(h, 200, "application/json", b'{"hello": "world"}')) as url:
        said = refusals(url, [("generate_image", {"prompt": "x"}), ("get_job_status", {"job_id": UNKNOWN})])
        assert ["not a check" in said[0], "not a job" in said[1]] == [True, True]
        assert all("update both" in words for words in said)


def test_a_service_that_hangs_up_is_a_sentence():
    with stand_in(lambda h: h.connection.close()) as url:
        assert "cannot be reached" in refusals(url, [("list_templates", {})])[0]


def test_the_services_own_sentence_is_shown():
    problem = {"code": "queue_full", "title": "The queue is full", "detail": "100 jobs wait. Try again in 40 s."}
    body = json.dumps(problem).encode()
    with stand_in(lambda h: reply(h, 429, "application/problem+json", body)) as url:
        assert refusals(url, [("generate_image", {"prompt": "x"})]) == ["100 jobs wait. Try again in 40 s."]


def test_unknown_jobs_and_pictures(service):
    said = refusals(service.url, [t for t in TOOLS if t[0] in {"get_job_status", "get_job_result", "cancel_job"}])
    assert all("no job" in words for words in said)
    edit, chunk = refusals(service.url, [t for t in TOOLS if t[0] in {"edit_image", "read_image_chunk"}])
    assert "picture" in edit and "picture" in chunk


@pytest.mark.parametrize("job_id", ["../../api/status", "a/b", "%2e%2e", "x?wait=1", "é"])
def test_no_id_leaves_its_route(service, job_id):
    (said,) = refusals(service.url, [("cancel_job", {"job_id": job_id})])
    assert "is not an id" in said or "no job" in said


def test_an_expired_job_says_when_it_expired(service):
    job_id = service.draw()["job_id"]
    with contextlib.closing(sqlite3.connect(service.home / "jobs.sqlite3", timeout=30)) as jobs, jobs:
        jobs.execute("UPDATE jobs SET expires_at = ? WHERE id = ?", (time.time(), job_id))
    until(lambda: service.http.get(f"/api/jobs/{job_id}").status_code == 410, "the job expires")
    for said in refusals(service.url, [("get_job_result", {"job_id": job_id})]):
        assert "expired" in said and "20" in said.split("expired", 1)[1], said


def test_references_that_cannot_be_used(service, tmp_path):
    (tmp_path / "notes.png").write_text("my password")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(5 * 2**30)
    bad = {
        "/etc/passwd": "never read",
        str(tmp_path / "notes.png"): "is not a picture",
        str(tmp_path / "huge.png"): "5120 MiB",
        str(tmp_path): "is a folder",
        str(tmp_path / "loop.png"): "leads back to itself",
        str(tmp_path / "none.png"): "no file",
        "https://example.org/a.png": "not fetched",
    }
    before = service.http.get("/api/images", params={"limit": 1}).json()["items"][:1]
    said = refusals(
        service.url, [("edit_image", {"prompt": "x", "images": [path]}) for path in bad], mcp_roots=tmp_path
    )
    for words, expected in zip(said, bad.values(), strict=True):
        assert expected in words and "password" not in words
    assert service.http.get("/api/images", params={"limit": 1}).json()["items"][:1] == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"prompt": "x", "width": "wide"}, "width"),
        ({"prompt": "x", "steps": 0}, "steps"),
        ({"prompt": "x", "n": 99}, "n:"),
        ({"prompt": ""}, "prompt"),
        ({}, "prompt"),
        ({"prompt": "x", "quality": "best"}, "quality"),
    ],
)
def test_a_wrong_argument_is_named(service, arguments, says):
    (said,) = refusals(service.url, [("generate_image", arguments)])
    assert said.startswith("Nothing was done.") and says in said and "pydantic" not in said


def test_what_nobody_thought_of_shows_no_insides(service, monkeypatch):
    async def broken(*_arguments, **_named):
        raise RuntimeError("secret path /srv/models")

    monkeypatch.setattr(Results, "finished", broken)
    (said,) = refusals(service.url, [("generate_image", {"prompt": "x", **SMALL})])
    assert "secret" not in said


def shown_although_not_saved(service, result):
    assert not result.is_error, text_of(result)
    text = text_of(result)
    assert "The picture was not saved" in text and "Saved:" not in text
    preview_of(result)
    assert service.http.get(after(text, "UTC): ")).status_code == 200
    assert after(text, "Download command: ").startswith("curl ")
    assert image_id_of(result)
    return text


def test_a_folder_that_cannot_be_written_costs_neither_preview_nor_url(service, tmp_path):
    blocked = tmp_path / "a file, not a folder"
    blocked.write_text("")

    async def story():
        async with within(service.url, output_dir=blocked) as client:
            text = shown_although_not_saved(service, await call(client, "generate_image", prompt="x", **SMALL))
            assert f"{blocked} is not a folder" in text and "IMAGEGEN_OUTPUT_DIR" in text

    run(story())


def test_a_full_disk_costs_neither_preview_nor_url(service, require, tmp_path):
    folder = tmp_path / "full"
    folder.mkdir()
    mount = f'mount -t tmpfs -o size=4k tmpfs "{folder}"'
    possible = subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True).returncode == 0
    require("a user namespace in which a small disk can be mounted", possible)
    start = f'{mount} && exec "{sys.executable}" -m mcp_front'
    transport = StdioTransport(
        "unshare", ["-rm", "sh", "-c", start], env=environment(service.url, output_dir=folder), keep_alive=False
    )

    async def story():
        async with Client(transport) as client:
            text = shown_although_not_saved(service, await call(client, "generate_image", prompt="x", **SMALL))
            assert f"no space left for it in {folder}" in text

    run(story())


def test_a_blank_picture_is_said_in_the_first_line(serve, tmp_path, sd_server):
    service = serve(sd_server=recording_engine.install(tmp_path, sd_server, flat=[True]).binary)

    async def story():
        async with within(service.url) as client:
            return text_of(await call(client, "generate_image", prompt="x", **{**SMALL, "seed": 7}))

    first, second, *rest = run(story()).splitlines()
    assert first.startswith("The picture does not show what was asked for. It is ")
    assert first.endswith("Tell the user so.") and "NaN" not in first
    assert second.startswith("Drew 1 picture")
    assert [line for line in rest if "(NaN)" in line and line.startswith("Note: ")]

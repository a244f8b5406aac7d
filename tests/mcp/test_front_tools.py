"""Drawing, editing, polling and fetching through the front, against the real service."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import random
from itertools import pairwise

import pytest
from fastmcp import Client
from fronts import (
    SMALL,
    after,
    call,
    image_id_of,
    job_id_of,
    preview_of,
    run,
    saved_path_of,
    size_of,
    stdio,
    text_of,
    within,
)
from PIL import Image
from served import ENDLESS

from imagegen_client.answers import parsed
from mcp_front.answers import Job
from mcp_front.client import connected
from mcp_front.facts import Facts
from mcp_front.results import Results
from mcp_front.settings import Settings


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    return tmp_path_factory.mktemp("mit Leerzeichen ü") / "pictures"


def test_a_picture_is_drawn_saved_previewed_and_linked(service, output):
    async def story():
        told = []

        async def on_progress(progress, total, message):
            told.append((progress, total, message))

        async with stdio(service.url, output_dir=output, client={"progress_handler": on_progress}) as client:
            result = await call(client, "generate_image", prompt="a red ball", **SMALL)
        assert not result.is_error, text_of(result)
        path = saved_path_of(result)
        assert path.parent == output and "a-red-ball" in path.name
        with Image.open(path) as drawn:
            assert drawn.format == "PNG" and drawn.size == (64, 64)
        stored = service.http.get(f"/images/{image_id_of(result)}.png").content
        assert path.read_bytes() == stored
        preview_of(result)
        text = text_of(result)
        assert "seed 7" in text and "model tiny" in text and "(until 20" in text and " UTC)" in text
        assert service.http.get(text.split("UTC): ")[1].splitlines()[0]).content == stored
        assert "Always tell the user where the file was saved" in text
        links = [part for part in result.content if part.type == "resource_link"]
        assert [link.uri for link in links] == [f"image://{image_id_of(result)}/full.png"]
        assert result.structured_content is None
        assert told and told[-1][0] == 100 and {total for _, total, _ in told} == {100}
        assert all(early < late for (early, _, _), (late, _, _) in pairwise(told))

    run(story())


def test_a_speed_that_the_model_has_not_is_told_in_the_services_words(service, output):
    async def story():
        async with within(service.url, output_dir=output) as client:
            for tool in ("generate_image", "submit_async_job"):
                result = await call(client, tool, prompt="a red ball", speed="fast", **SMALL)
                assert result.is_error and "tiny has no fast setting" in text_of(result)

    run(story())


def test_only_a_client_with_the_view_gets_structured_content_and_schemas(service, output):
    async def story():
        async with within(service.url, ui=True, output_dir=output) as client:
            schemas = {tool.name: tool.output_schema for tool in await client.list_tools()}
            result = await call(client, "generate_image", prompt="a red ball", **SMALL)
        assert all(schemas.values())
        facts = Facts.model_validate(result.structured_content)
        assert facts.status == "complete" and facts.images[0].seed == 7
        assert facts.images[0].saved_path == str(saved_path_of(result))
        assert "tell the user" in facts.next_step
        assert len(facts.model_dump_json()) < 4000
        async with within(service.url, output_dir=output) as client:
            assert not any(tool.output_schema for tool in await client.list_tools())

    run(story())


def test_edit_by_image_id_and_by_local_path(service, output, tmp_path):
    local = tmp_path / "my sketch.png"
    Image.effect_noise((64, 64), 80).convert("RGB").save(local)
    local.write_bytes(local.read_bytes() + b"hidden-behind-the-picture")

    async def story():
        async with within(service.url, output_dir=output, mcp_roots=tmp_path) as client:
            first = await call(client, "generate_image", prompt="a red ball", **SMALL)
            by_id = await call(client, "edit_image", prompt="make it blue", images=[image_id_of(first)], **SMALL)
            by_path = await call(client, "edit_image", prompt="make it blue", images=[str(local)], **SMALL)
        for result in (by_id, by_path):
            assert not result.is_error, text_of(result)
            assert text_of(result).startswith("Edited 1 picture") and saved_path_of(result).is_file()
        assert saved_path_of(by_id).read_bytes() != saved_path_of(first).read_bytes()
        job = service.job(after(text_of(by_path), "(job ").rstrip(")."))
        sent = service.http.get(f"/images/{job['references'][0]}.png").content
        assert sent.startswith(b"\x89PNG") and b"hidden" not in sent

    run(story())


def test_submit_poll_and_fetch_as_often_as_one_likes(service, output):
    async def story():
        async with within(service.url, output_dir=output) as client:
            submitted = await call(client, "submit_async_job", prompt="in the background", **SMALL)
            job_id = job_id_of(submitted)
            assert f'get_job_status(job_id="{job_id}") every 5 s, not faster' in text_of(submitted)
            for _ in range(20):
                status = await call(client, "get_job_status", job_id=job_id)
                assert not status.is_error, text_of(status)
                if "complete" in text_of(status).splitlines()[0]:
                    break
            assert f'get_job_result(job_id="{job_id}")' in text_of(status)
            fetched = [await call(client, "get_job_result", job_id=job_id) for _ in range(3)]
            late = await call(client, "cancel_job", job_id=job_id)
        assert {saved_path_of(result) for result in fetched} == {saved_path_of(fetched[0])}
        assert len(list(output.glob("*in-the-background*"))) == 1
        assert "already ended: complete" in text_of(late)

    run(story())


def test_cancel_job_stops_a_running_job(service, output):
    async def story():
        async with within(service.url, output_dir=output) as client:
            job_id = job_id_of(await call(client, "submit_async_job", prompt="unwanted", **ENDLESS))
            cancelled = await call(client, "cancel_job", job_id=job_id)
            after_it = await call(client, "get_job_result", job_id=job_id)
            status = await call(client, "get_job_status", job_id=job_id)
        assert text_of(cancelled).startswith(f"Job {job_id} is cancelled")
        assert service.job(job_id)["status"] == "cancelled"
        assert after_it.is_error and "was cancelled" in text_of(after_it)
        assert status.is_error and "was cancelled" in text_of(status)

    run(story())


@pytest.fixture(scope="module")
def large(service):
    """A picture of 3 MB in the service's store, and the job that would have drawn it.

    Drawing it takes the tiny model minutes, so it is uploaded and only the job's record is made up.
    """
    file = io.BytesIO()
    Image.frombytes("RGB", (1024, 1024), random.Random(1).randbytes(3 * 1024 * 1024)).save(file, "PNG")
    headers = {"Content-Type": "image/png"}
    stored = service.http.post("/api/images", content=file.getvalue(), headers=headers).json()
    assert stored["bytes"] > 3_000_000
    times = {"started_at": "2026-11-05T14:00:00Z", "finished_at": "2026-11-05T14:00:09Z"}
    return parsed(Job, {"job_id": "large", "status": "complete", "images": [stored], **times}, "job")


def test_a_picture_of_3_mb_makes_a_small_result(service, large, output):
    async def story():
        settings = Settings(url=service.url, output_dir=output)
        async with connected(settings) as client:
            result = await Results(client, settings, saves=True).finished(large, structured=True)
        assert saved_path_of(result).stat().st_size > 3_000_000
        assert size_of(result) < 900_000
        preview_of(result)

    run(story())


def test_more_previews_than_fit_are_left_out_and_no_picture_is(service, large, output):
    async def story():
        settings = Settings(url=service.url, output_dir=output)
        many = dataclasses.replace(large, images=large.images * 16)
        async with connected(settings) as client:
            result = await Results(client, settings, saves=True).finished(many, structured=True)
        kinds = [part.type for part in result.content]
        assert size_of(result) < 900_000 and 1 < kinds.count("image") < 16
        assert kinds.count("resource_link") == len(result.structured_content["images"]) == 16

    run(story())


def test_a_picture_of_3_mb_is_read_whole_in_chunks_and_as_a_resource(service, large, output):
    image_id = large.images[0].id

    async def story():
        async with within(service.url, ui=True, output_dir=output) as client:
            parts, offset, total = [], 0, 1
            while offset < total:
                chunk = await call(client, "read_image_chunk", image_id=image_id, offset=offset)
                assert size_of(chunk) < 900_000
                facts = chunk.structured_content
                parts.append(base64.b64decode(facts["data"]))
                offset, total = facts["next"], facts["total"]
            resource = await client.read_resource(f"image://{image_id}/full.png")
        assert len(parts) > 4
        assert hashlib.sha256(b"".join(parts)).hexdigest() == large.images[0].sha256
        assert hashlib.sha256(base64.b64decode(resource[0].blob)).hexdigest() == large.images[0].sha256

    run(story())


def test_the_service_may_restart_between_two_calls(serve, output):
    service = serve()

    async def story():
        async with stdio(service.url, output_dir=output) as client:
            first = await call(client, "generate_image", prompt="before", **SMALL)
            service.terminate()
            service.wait()
            down = await call(client, "list_templates")
            service.restart()
            second = await call(client, "edit_image", prompt="after", images=[image_id_of(first)], **SMALL)
        assert not second.is_error, text_of(second)
        assert down.is_error and "cannot be reached" in text_of(down) and "imagegen serve" in text_of(down)

    run(story())


def test_the_older_protocol_works_too(service, output):
    async def story():
        async with stdio(service.url, output_dir=output, client={"mode": "legacy"}) as client:
            assert isinstance(client, Client)
            result = await call(client, "generate_image", prompt="a red ball", **SMALL)
        assert not result.is_error and saved_path_of(result).is_file()

    run(story())

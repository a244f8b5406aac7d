"""imagegen_client against the running service: draw, edit, follow, cancel, and connections that break."""

from __future__ import annotations

import hashlib
import io
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from PIL import Image
from proxy import reverse_proxy
from served import ROOT, Service

from imagegen.images.png import without_manifest
from imagegen_client import (
    AsyncClient,
    BadImage,
    Client,
    Expired,
    InvalidRequest,
    JobCancelled,
    NotSupportedByModel,
    NotTheService,
    Picture,
    ServiceError,
    Unreachable,
)
from imagegen_client.calls import DrawOptions

SMALL: DrawOptions = {"width": 64, "height": 64, "steps": 2, "seed": 7}


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    with Client(service.url) as client:
        yield client


def test_a_picture_is_drawn_saved_and_described(client: Client, service: Service, tmp_path: Path) -> None:
    job = client.draw("a red circle", **SMALL)
    written = job.save(tmp_path / "new" / "circle.png")
    picture = job.picture
    assert written.read_bytes() == picture.bytes == service.http.get(picture.url).content
    assert hashlib.sha256(picture.bytes).hexdigest() == picture.info.sha256
    assert (picture.seed, picture.pil.size, picture.model, picture.params["steps"]) == (7, (64, 64), "tiny", 2)
    assert client.job(job.id).picture.bytes == picture.bytes
    assert picture.id in {one.id for one in client.images(limit=200)}


def test_the_jpeg_says_that_it_is_generated(client: Client, tmp_path: Path) -> None:
    written = client.draw("a red circle", **SMALL).save(tmp_path / "circle.jpg")
    assert b"trainedAlgorithmicMedia" in Image.open(written).info["xmp"]


@pytest.mark.parametrize("kind", ["path", "bytes", "pillow", "picture", "id", "url", "list"])
def test_a_picture_of_any_kind_is_edited(client: Client, tmp_path: Path, kind: str) -> None:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "red.png")
    stored = client.upload(tmp_path / "red.png")
    given: Any = {
        "path": tmp_path / "red.png",
        "bytes": (tmp_path / "red.png").read_bytes(),
        "pillow": Image.open(tmp_path / "red.png"),
        "picture": stored,
        "id": stored.id,
        "url": stored.url,
        "list": [stored],
    }[kind]
    job = client.edit(given, "make it blue", fit="cover", **SMALL)
    assert (job.state.kind, job.picture.size, job.params["fit"]) == ("edit", (64, 64), "cover")


def test_what_the_model_cannot_is_refused_before_a_job(client: Client) -> None:
    before = [job.id for job in client.jobs(1)]
    red = Image.new("RGB", (64, 64), "red")
    with pytest.raises(NotSupportedByModel):
        client.edit(red, "make it blue", mask=Image.new("L", (64, 64), 255), model="sd-turbo")
    with pytest.raises(NotSupportedByModel):
        client.check("make it blue", red, model="sd-turbo")
    with pytest.raises(InvalidRequest, match="promt"):
        client.draw("a cat", extra={"promt": "a cat"})
    assert [job.id for job in client.jobs(1)] == before


def test_a_check_says_what_would_be_drawn(client: Client) -> None:
    checked = client.check("a red circle", width=64, height=64)
    assert (checked.kind, checked.model, checked.draws_it) == ("generate", "tiny", True)
    assert client.check("make it blue", Image.new("RGB", (64, 64), "red")).kind == "edit"


def test_a_larger_copy_is_made_of_a_picture_and_of_a_file(client: Client, tmp_path: Path) -> None:
    Image.new("RGB", (20, 10), "red").save(tmp_path / "red.png")
    job = client.upscale(tmp_path / "red.png", factor=2, model="lanczos")
    assert (job.picture.pil.size, job.state.kind, job.picture.seed) == ((40, 20), "upscale", None)
    assert client.upscale(job.picture).picture.size == (160, 80)


def test_variations_and_a_strength_change_a_picture(client: Client, tmp_path: Path) -> None:
    job = client.draw("a bell", **SMALL)
    assert [client.vary(of, n=2, seed=8).prompt for of in (job, job.picture, job.picture.url)] == ["a bell"] * 3
    job.save(tmp_path / "bell.png")
    assert client.vary(tmp_path / "bell.png", prompt="a red bell").state.kind == "edit"
    assert client.edit(job.picture, "make it blue", strength=0.5, **SMALL).state.params["strength"] == 0.5
    with pytest.raises(InvalidRequest, match="strength is 2"):
        client.edit(job.picture, "make it blue", strength=2.0, **SMALL)


def test_the_settings_in_a_file_draw_its_picture_again(client: Client, tmp_path: Path) -> None:
    job = client.draw("a bell", **SMALL)
    found = client.inspect(job.save(tmp_path / "bell.png"))
    assert (found.program, found.settings["seed"], found.warnings) == ("imagegen", 7, [])
    assert found.request is not None
    again = client.draw(**found.request)
    assert without_manifest(again.picture.bytes) == without_manifest(job.picture.bytes)
    with pytest.raises(BadImage):
        client.inspect(b"GIF89a")


def test_pictures_are_kept_found_and_deleted(client: Client) -> None:
    picture = client.draw("a brass gong", **SMALL).picture
    kept = client.keep(picture, board="Gongs", note="loud")
    assert (kept.info.board, kept.info.note, kept.info.expires_at) == ("Gongs", "loud", None)
    found = client.images(q="loud", kept=True, board="Gongs", since="2026-01-01", min_size=64)
    assert [(one.id, one.prompt, one.model) for one in found] == [(picture.id, "a brass gong", "tiny")]
    assert client.images(q="loud", max_size=63) == client.images(board="none") == []
    assert client.unkeep(picture.url).info.expires_at is not None
    client.delete(picture.id)
    with pytest.raises(Expired):
        client.read_png(picture.id)
    with pytest.raises(BadImage):
        client.keep("../jobs")


def test_waiting_jobs_are_cancelled_at_once(client: Client, service: Service) -> None:
    running = client.draw("a red circle", width=256, height=256, steps=100, n=4)
    service.until_drawing(running.id)
    waiting = [client.draw("a bell", **SMALL) for _ in range(2)]
    assert [job.id for job in client.cancel_all()] == [job.id for job in reversed(waiting)]
    assert [job.refresh().status for job in waiting] == ["cancelled"] * 2
    assert running.refresh().status == "running"
    assert running.cancel().status == "cancelled"


def test_a_job_is_followed_with_previews(client: Client) -> None:
    job = client.draw("a red circle", width=128, height=128, steps=100, preview=1)
    updates = list(job)
    assert updates[-1].state.status == job.status == "complete"
    fractions = [update.fraction for update in updates]
    assert fractions[0] == 0 and fractions[-1] == 1 and fractions == sorted(fractions)
    previews = [update.preview for update in updates if update.preview]
    assert previews and previews[-1].pil.size == (128, 128)


def test_a_cancelled_job_raises_for_its_pictures(client: Client, tmp_path: Path) -> None:
    job = client.draw("a red circle", width=256, height=256, steps=100, n=4)
    assert job.cancel().status == "cancelled"
    with pytest.raises(JobCancelled):
        job.save(tmp_path / "never.png")
    assert not (tmp_path / "never.png").exists()


def test_a_wait_that_ends_early_leaves_the_job(client: Client) -> None:
    job = client.draw("a red circle", width=256, height=256, steps=100, n=4)
    with pytest.raises(ServiceError) as early:
        job.wait(timeout_s=0)
    assert early.value.code == "wait_too_long"
    assert client.job(job.id).status in {"queued", "running"}
    job.cancel()


WAITING = """
import sys, threading, time, traceback
from imagegen_client import Client

def tell_when_it_waits():
    main = threading.main_thread().ident
    while not any(call.name == "_readings" for call in traceback.extract_stack(sys._current_frames()[main])):
        time.sleep(0.01)
    print(job.id, flush=True)

job = Client(sys.argv[1]).draw("a tree", width=256, height=256, steps=100, n=4)
threading.Thread(target=tell_when_it_waits, daemon=True).start()
job.save(sys.argv[2])
"""
"""Draws with the client; prints the job's id as soon as the main thread waits for the pictures."""


def test_ctrl_c_during_a_wait_cancels_the_job(client: Client, service: Service, tmp_path: Path) -> None:
    command = [sys.executable, "-c", WAITING, service.url, str(tmp_path / "never.png")]
    running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert running.stdout is not None
    job_id = running.stdout.readline().decode().strip()
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert b"KeyboardInterrupt" in said
    assert client.job(job_id).status == "cancelled"
    assert not (tmp_path / "never.png").exists()


def test_the_async_client_does_the_same(service: Service, tmp_path: Path) -> None:
    async def story() -> tuple[list[Picture], list[str]]:
        async with AsyncClient(service.url) as client:
            job = await client.draw("a red circle", **SMALL)
            texts = [str(update) async for update in job]
            [drawn] = await job
            assert await job.save(tmp_path / "circle.png") == tmp_path / "circle.png"
            [edited] = await (await client.edit(drawn, "make it blue", **SMALL))
            [listed] = await client.images(limit=1)
            listed = await client.read(listed)
            cancelled = await (await client.draw("a tree", width=256, height=256, steps=100, n=4)).cancel()
            with pytest.raises(JobCancelled):
                await cancelled
            assert "tiny" in {model.name for model in await client.models()}
            assert (await client.check("a red circle")).model == "tiny"
            assert (await (await client.job(job.id)).refresh()).status == "complete"
            return [drawn, edited, listed], texts

    pictures, texts = anyio.run(story)
    assert texts[-1] == "complete"
    assert all(picture.pil.size == (64, 64) for picture in pictures)
    assert (tmp_path / "circle.png").read_bytes() == pictures[0].bytes


def test_a_lost_answer_makes_no_second_job(client: Client, service: Service) -> None:
    submitted: list[str] = []

    def loses(request: str) -> bool:
        if request.startswith("POST"):
            submitted.append(request)
        return request.startswith("POST") and len(submitted) <= 3

    with reverse_proxy(service.port, "/p", {}, loses=loses) as url, Client(url) as behind:
        job = behind.draw("a lost answer", **SMALL)
    assert submitted == ["POST /p/api/generate"] * 4
    assert [one.id for one in client.jobs(200) if one.prompt == "a lost answer"] == [job.id]
    client.job(job.id).wait()


def test_no_service_and_another_program_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match=r"no service answers at http://127\.0\.0\.1:1\."):
        Client("http://127.0.0.1:1").models()
    listener = socket.create_server(("127.0.0.1", 0))
    page = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nhi!\n"

    def answer() -> None:
        here, _ = listener.accept()
        with here:
            here.recv(65536)
            here.sendall(page)

    threading.Thread(target=answer, daemon=True).start()
    with listener, pytest.raises(NotTheService):
        Client(f"http://127.0.0.1:{listener.getsockname()[1]}").models()


def test_an_upload_that_is_no_picture_is_refused(client: Client) -> None:
    with pytest.raises(InvalidRequest) as refused:
        client.edit(io.BytesIO(b"this is no picture").getvalue(), "make it blue")
    assert refused.value.code == "bad_image"

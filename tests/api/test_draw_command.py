"""`imagegen draw` and `edit` on the running service: standard input and output, names of files, and the bar."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from served import ROOT, Service

from imagegen.cli.delivery import outcome

SMALL = ("-W", "64", "-H", "64", "--steps", "2", "--seed", "1")
COLOUR, MOVE = re.compile(rb"\x1b\[[0-9;]*m"), re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|\r")


def imagegen(service: Service, folder: Path, *words: str, **how: Any) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "imagegen.cli", *words, *SMALL, "--url", service.url]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, timeout=120, **how)


def newest(service: Service) -> dict[str, Any]:
    return service.http.get("/api/jobs", params={"limit": 1}).json()["items"][0]


def test_standard_input_is_drawn_and_the_picture_goes_to_standard_output(service: Service, tmp_path: Path) -> None:
    prompt = "\ufeffa red circle\nin a café\n".encode()
    drawn = imagegen(service, tmp_path, "draw", "-", "-o", "-", input=prompt, stderr=subprocess.PIPE)
    assert drawn.returncode == 0, drawn.stderr
    job = newest(service)
    assert job["prompt"] == "a red circle\nin a café"
    assert drawn.stdout == service.png(job), "and nothing else"
    assert Image.open(io.BytesIO(drawn.stdout)).size == (64, 64)
    assert b"64x64  seed 1  " in drawn.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_goes_away_is_a_sentence(service: Service, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "imagegen.cli", "draw", "x", "-o", "-", *SMALL, "--url", service.url]
    try:
        ended = subprocess.run(command, cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, timeout=120)
    finally:
        os.close(writing)
    assert ended.returncode == 1
    last = ended.stderr.decode().splitlines()[-1]
    assert last.startswith("imagegen: - cannot be written: Broken pipe. The picture is at http")


def test_a_picture_whose_name_is_spelled_another_way_is_edited(service: Service, tmp_path: Path) -> None:
    name = "Screenshot 2026-01-02 at 3.45.12\u202fPM.png"
    Image.new("RGB", (64, 64), "red").save(tmp_path / name)
    typed = f"'{tmp_path}/{name}'".replace("\u202f", " ")
    target = os.fsdecode(b"new/caf\xe9.png")
    edited = imagegen(service, tmp_path, "edit", typed, "make it blue", "-o", target, stderr=subprocess.PIPE)
    assert edited.returncode == 0, edited.stderr
    assert Image.open(tmp_path / target).size == (64, 64)
    assert edited.stdout.startswith(b"new/caf\xe9.png  64x64  seed 1  "), "the name as it is"


def test_the_bars_last_words_are_the_outcome(service: Service, tmp_path: Path) -> None:
    terminal, theirs = pty.openpty()
    written = bytearray()

    def read() -> None:
        with contextlib.suppress(OSError):  # EIO: nobody writes any more
            while True:
                written.extend(os.read(terminal, 65536))

    reader = threading.Thread(target=read)
    reader.start()
    drawn = imagegen(service, tmp_path, "draw", "a red circle", "-o", "a.png", stderr=theirs)
    os.close(theirs)
    reader.join()
    os.close(terminal)
    shown = MOVE.sub(b"\n", COLOUR.sub(b"", bytes(written))).decode()
    assert drawn.returncode == 0, shown
    bars = [line.strip() for line in shown.splitlines() if "━" in line]
    assert bars[0].startswith(("queued", "loading", "sampling", "step", "encoding", "decoding", "done")), bars
    assert bars[-1].startswith("done ━"), bars


def test_a_transparent_picture_is_asked_for_and_no_jpeg(service: Service, tmp_path: Path) -> None:
    before = newest(service)["job_id"]
    jpeg = imagegen(service, tmp_path, "draw", "a bell", "--transparent", "-o", "a.jpg", stderr=subprocess.PIPE)
    assert jpeg.returncode == 2 and b"A JPEG cannot be transparent" in jpeg.stderr
    assert newest(service)["job_id"] == before
    drawn = imagegen(service, tmp_path, "draw", "a bell", "--transparent", "-o", "a.png", stderr=subprocess.PIPE)
    assert b"note: The background was kept" in drawn.stderr, "the tiny model draws noise"
    assert newest(service)["params"]["background"] == "transparent"


@pytest.mark.parametrize(
    ("job", "said"),
    [
        ({"status": "complete"}, "done"),
        ({"status": "cancelled"}, "cancelled"),
        ({"status": "failed", "error": {"code": "out_of_vram"}}, "failed: out_of_vram"),
        ({"status": "queued"}, "queued"),
    ],
)
def test_how_a_job_ended(job: dict[str, Any], said: str) -> None:
    assert outcome(job) == said

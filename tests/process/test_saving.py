"""kill -9 while a picture is saved: whatever is on the disk by then, the job runs again and has one picture."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from inside import MakeBackend, ended
from served import ROOT

from imagegen.schemas import Job, Status

DYING = """
import asyncio, os, signal, sys
from imagegen import settings
from imagegen.app import App
from imagegen.images.files import ImageFiles
from imagegen.requests import GenerateRequest
from imagegen.images.store import ImageStore

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

written, inserted = ImageFiles.write, ImageStore.insert
def write(self, image_id, png):
    if sys.argv[1] == "before the file":
        die()
    written(self, image_id, png)
    if sys.argv[1] == "before the row":
        die()
async def insert(self, connection, images, **more):
    await inserted(self, connection, images, **more)
    if images:
        die()  # inside the transaction that completes the job
ImageFiles.write = write
if sys.argv[1] == "before the commit":
    ImageStore.insert = insert

async def main():
    app = App(settings.load())
    await app.start()
    request = GenerateRequest(prompt="a red circle", width=64, height=64, steps=2, seed=1)
    print((await app.admission.admit(request)).id, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize("moment", ["before the file", "before the row", "before the commit"])
def test_a_kill_while_saving_leaves_one_picture_and_no_other_file(
    app: MakeBackend, home: Path, sd_server: Path, moment: str
) -> None:
    settings = {"HOME": home, "SD_SERVER": sd_server, "THREADS": 1, "MODEL": "tiny"}
    environment = dict(os.environ) | {f"IMAGEGEN_{name}": str(value) for name, value in settings.items()}
    died = subprocess.run(
        [sys.executable, "-c", DYING, moment], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert died.returncode == -signal.SIGKILL, died.stderr

    async def started_again() -> Job:
        async with app() as service:
            return await ended(service, await service.jobs.get(died.stdout.strip()))

    job = asyncio.run(started_again())
    assert (job.status, job.attempts) == (Status.COMPLETE, 2), job
    assert [path.name for path in (home / "images").iterdir()] == [f"{job.images[0].id}.png"]

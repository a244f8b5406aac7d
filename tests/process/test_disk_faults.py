"""Real disks that fail the real service: full, read-only, damaged, gone. A sentence, and everything else goes on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from refusals import data_url_of, problem_of
from served import MakeService, Require, Service, new_home, refused_start, until
from state_folder import opened, scenario

from imagegen.storage.database import StateError, open_database

DISK_BYTES = 8 * 1024 * 1024


class Disk:
    """A file system in memory, small enough to be filled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self) -> None:
        with contextlib.suppress(OSError), self._filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        assert os.statvfs(self.folder).f_bavail == 0

    def free(self) -> None:
        self._filler.unlink()

    def read_only(self) -> None:
        subprocess.run(["mount", "-o", "remount,ro", self.folder], check=True, capture_output=True)


@pytest.fixture
def disk(tmp_path: Path, require: Require) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    options = f"size={DISK_BYTES},mode=0700"
    mounted = (
        shutil.which("mount") is not None
        and not subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True).returncode
    )
    require("a small file system cannot be mounted here (root may, and mount(8) is needed)", mounted)
    yield Disk(folder)
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def disk_home(disk: Disk, models_dir: Path) -> Path:
    """A state folder on the small disk; the model's files are elsewhere."""
    return new_home(disk.folder / "home", models_dir)


def statuses(home: Path) -> dict[str, str]:
    """What the database itself says of each job."""
    with contextlib.closing(sqlite3.connect(f"file:{home / 'jobs.sqlite3'}?mode=ro", uri=True)) as connection:
        return dict(connection.execute("SELECT id, status FROM jobs"))


def test_a_disk_that_fills_up_costs_the_jobs_of_that_time_and_nothing_else(
    serve: MakeService, disk: Disk, disk_home: Path
) -> None:
    service = serve(home=disk_home, idle_timeout="never")
    before = service.draw()
    with service.at_work() as job:
        running, waiting = job["job_id"], service.submit()["job_id"]
        disk.fill()

    for job_id in (running, waiting):
        job = service.ended(job_id)
        assert (job["status"], job["error"]["code"]) == ("failed", "storage_full"), job
        assert "is full" in job["error"]["detail"]
        assert "free some" in job["error"]["detail"]
        assert job["images"] == []
    submitted = service.http.post("/api/generate", json={"prompt": "a red circle"})
    uploaded = service.http.post("/api/edit", json={"prompt": "make it blue", "images": [data_url_of()]})
    for answer in (submitted, uploaded):
        assert problem_of(answer)[:2] == (507, "storage_full")
        assert "is full" in answer.json()["detail"]
    assert service.job(before["job_id"])["status"] == "complete"
    assert len(service.png(before)) == before["images"][0]["bytes"]
    assert service.http.get("/readyz").status_code == 200
    assert service.http.delete(f"/api/jobs/{running}").json()["status"] == "failed"
    engine_pid = service.engine_pid
    assert engine_pid is not None, "the engine has nothing to do with it"

    disk.free()
    after = service.draw()
    assert service.engine_pid == engine_pid
    until(lambda: {statuses(disk_home)[one] for one in (running, waiting)} == {"failed"}, "the ends are written")
    files = {path.stem for path in (disk_home / "images").iterdir()}
    assert files == {job["images"][0]["id"] for job in (before, after)}, "half a picture was left behind"
    assert "Traceback" not in service.log.read_text(errors="replace")


def test_a_full_and_a_read_only_disk_are_told_at_the_start(
    disk: Disk, disk_home: Path, sd_server: Path, tmp_path: Path
) -> None:
    disk.fill()
    full = Service(disk_home, sd_server, {})
    full.log = tmp_path / "full.log"
    refused_start(full, "cannot start: ", f"{disk_home}", "full", "disk space")
    disk.free()
    disk.read_only()
    read_only = Service(disk_home, sd_server, {})
    read_only.log = tmp_path / "read-only.log"
    refused_start(read_only, f"cannot start: The state folder {disk_home} cannot be used: Read-only file system.")


# ---- damaged --------------------------------------------------------------------------------------------------


def garbage(file: Path) -> None:
    file.write_bytes(b"not a database at all " * 1000)


def cut_off(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-4096])


def pages_lost(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[4096 : 3 * 4096] = os.urandom(2 * 4096)
    file.write_bytes(data)


Damage = Callable[[Path], None]


@pytest.mark.parametrize("damage", [garbage, cut_off, pages_lost])
def test_a_damaged_database_is_refused_by_name_and_not_changed(tmp_path: Path, damage: Damage) -> None:
    @scenario
    async def with_jobs(folder: Path) -> None:
        async with opened(folder) as state:
            for _ in range(20):
                await state.submit(prompt="p" * 2000)

    with_jobs(tmp_path)
    file = tmp_path / "jobs.sqlite3"
    damage(file)
    before = file.read_bytes()
    with pytest.raises(StateError) as refused:
        asyncio.run(open_database(file))
    assert str(file) in str(refused.value)
    assert "is damaged" in str(refused.value)
    assert "Nothing was changed." in str(refused.value)
    assert file.read_bytes() == before


def test_the_service_does_not_start_on_a_damaged_database(home: Path, sd_server: Path) -> None:
    file = home / "jobs.sqlite3"
    garbage(file)
    before = file.read_bytes()
    refused_start(Service(home, sd_server, {}), f"cannot start: The database {file} is damaged", "Put a backup")
    assert file.read_bytes() == before


# ---- gone -----------------------------------------------------------------------------------------------------


def test_folders_that_are_removed_while_it_runs_are_told_and_nothing_hangs(serve: MakeService, home: Path) -> None:
    service = serve(idle_timeout="never")
    before = service.draw()
    shutil.rmtree(home / "images")
    failed = service.ended(service.submit()["job_id"])
    assert (failed["status"], failed["error"]["code"]) == ("failed", "storage_error")
    assert failed["error"]["detail"].startswith("The picture folder was removed.")
    assert service.http.get(f"/images/{before['images'][0]['id']}.png").json()["code"] == "image_damaged"
    (home / "images").mkdir()
    assert service.draw()["status"] == "complete", "its return is enough"

    with service.at_work() as job:
        running = job["job_id"]
        home.rename(home.with_name("elsewhere"))
        for answer in (
            service.http.post("/api/generate", json={"prompt": "a red circle"}),
            service.http.get(f"/api/jobs/{running}"),
            service.http.get("/api/jobs"),
        ):
            status, code, detail = problem_of(answer)
            assert (status, code) == (500, "storage_error")
            assert "removed or replaced: restart the service" in detail
    until(lambda: service.status()["queue"]["running"] == 0, "the job comes to an end")
    home.with_name("elsewhere").rename(home)
    job = service.job(running)
    assert (job["status"], job["error"]["code"]) == ("failed", "storage_error")
    assert service.draw()["status"] == "complete"
    shutil.rmtree(home)
    service.terminate()
    assert service.wait() == 0

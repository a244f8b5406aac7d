"""A Postgres database beside a SQLite file: copying the rows, and pictures of the database before."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
import state_folder
from click.testing import CliRunner
from command_line import document_of
from postgres import PostgresServer
from served import ROOT

from imagegen.cli import cli
from imagegen.images.files import ImageFiles, new_id
from imagegen.images.store import ImageStore
from imagegen.schemas import Job
from imagegen.storage.database import open_database


def test_a_copy_takes_every_row_along_once(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fill(folder: Path) -> list[Job]:
        async with state_folder.opened(folder) as state:
            jobs = [await state.submit(prompt=f"{number} with a NUL: \0") for number in range(3)]
            assert await state.draw(jobs[0])
            return await state.jobs.list(5)

    async def read(folder: Path) -> list[Job]:
        async with state_folder.opened(folder) as state:
            found = await state.jobs.list(5)
            assert (await state.submit()).seq == found[0].seq + 1
            assert await state.images.read(found[2].images[0].id) == state_folder.picture().png
            return found

    had, url = asyncio.run(fill(tmp_path)), postgres.new_schema()
    monkeypatch.setenv("IMAGEGEN_HOME", str(tmp_path))
    monkeypatch.setenv("IMAGEGEN_DATABASE_URL", url)
    copied = CliRunner().invoke(cli, ["database", "copy", "--json"])
    assert copied.exit_code == 0, copied.output
    rows = document_of("database copy", copied.stdout)["rows"]
    assert (rows["jobs"], rows["images"]) == (3, 1)
    token = state_folder.DATABASE_URL.set(url)
    try:
        assert [job.model_dump(exclude={"prompt"}) for job in asyncio.run(read(tmp_path))] == [
            job.model_dump(exclude={"prompt"}) for job in had
        ]
    finally:
        state_folder.DATABASE_URL.reset(token)
    again = CliRunner().invoke(cli, ["database", "copy"], standalone_mode=False)
    assert "has jobs or pictures already. Nothing was copied" in str(again.exception)


def test_pictures_of_the_database_before_are_left_alone(postgres: PostgresServer, tmp_path: Path) -> None:
    async def start(url: str | None) -> None:
        database = await open_database(tmp_path / "jobs.sqlite3", url)
        await ImageStore(database, files, ttl_s=60).sweep_orphans()
        await database.close()

    files = ImageFiles(tmp_path / "images")
    ours, url = new_id(), postgres.new_schema()
    files.write(ours, b"drawn with SQLite")
    for database in (url, url, postgres.new_schema(), url):
        asyncio.run(start(database))
        assert files.read(ours) == b"drawn with SQLite"
    stray = new_id()
    files.write(stray, b"a crash left it")
    asyncio.run(start(url))
    with pytest.raises(FileNotFoundError):
        files.read(stray)
    asyncio.run(start(None))
    assert files.read(ours) == b"drawn with SQLite"


def test_a_host_on_sqlite_imports_no_driver_of_a_server(tmp_path: Path) -> None:
    program = """
import asyncio, pathlib, sys
import imagegen.app
from imagegen.storage.database import open_database
async def run():
    await (await open_database(pathlib.Path(sys.argv[1]))).close()
asyncio.run(run())
print([name for name in ("psycopg", "imagegen.storage.postgres", "procrastinate", "obstore") if name in sys.modules])
"""
    command = [sys.executable, "-c", program, str(tmp_path / "jobs.sqlite3")]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout == "[]\n"

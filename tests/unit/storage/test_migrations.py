"""A database of each older schema is brought up to date with everything that is in it, at once or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, select

from imagegen.images.files import ImageFiles
from imagegen.images.store import ImageStore
from imagegen.schemas import StoredImage
from imagegen.storage import migrations
from imagegen.storage.database import Database, StateError, open_database
from imagegen.storage.migrations import SCHEMA_VERSION
from imagegen.storage.tables import jobs, metadata

JOB = {
    "id": "a" * 32, "revision": 3, "kind": "generate", "status": "queued", "model": "tiny", "prompt": "a red circle",
    "params": json.dumps({"width": 64}), "refs": "[]", "warnings": "[]", "policy": "{}", "attempts": 1,
    "created_at": 1.5,
}  # fmt: skip
PICTURE = {
    "id": "b" * 32, "idx": 0, "width": 8, "height": 6, "bytes": 90, "sha256": "c" * 64, "format": "png",
    "created_at": 1.5, "expires_at": 9.5,
}  # fmt: skip


@contextlib.contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        yield connection
        connection.commit()


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """A database as the first release made it, with one job and one upload."""
    path = tmp_path / "jobs.sqlite3"
    with opened(path) as connection:
        connection.executescript(Path(__file__).with_name("schema_1.sql").read_text())
        for table, row in (("jobs", JOB), ("images", PICTURE)):
            values = ", ".join("?" * len(row))
            connection.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({values})", list(row.values()))
        connection.execute("PRAGMA user_version = 1")
    return path


def version(path: Path) -> int:
    with opened(path) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def columns(path: Path) -> dict[str, set[str]]:
    with opened(path) as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {table: {row[1] for row in connection.execute(f"PRAGMA table_info({table})")} for table in tables}


async def first_job(database: Database) -> dict[str, object]:
    try:
        return dict((await database.fetch(select(jobs)))[0]._mapping)
    finally:
        await database.close()


def test_a_database_of_the_first_release_is_brought_up_to_date(first: Path) -> None:
    async def open_and_read() -> dict[str, object]:
        return await first_job(await open_database(first))

    job = asyncio.run(open_and_read())
    assert version(first) == SCHEMA_VERSION
    assert {name: job[name] for name in ("id", "revision", "prompt", "params", "attempts", "created_at")} == {
        "id": "a" * 32, "revision": 3, "prompt": "a red circle", "params": {"width": 64}, "attempts": 1,
        "created_at": 1.5,
    }  # fmt: skip
    assert (job["engine_texts"], job["preview"], job["draft"]) == (None, None, False)


def test_a_picture_of_the_first_release_has_no_warnings(first: Path, tmp_path: Path) -> None:
    async def open_and_read() -> StoredImage:
        database = await open_database(first)
        try:
            return await ImageStore(database, ImageFiles(tmp_path / "images"), ttl_s=60).get(str(PICTURE["id"]))
        finally:
            await database.close()

    image = asyncio.run(open_and_read())
    assert (image.id, image.width, image.height, image.warnings) == ("b" * 32, 8, 6, ())


def test_it_then_has_the_tables_and_columns_of_a_new_one(first: Path, tmp_path: Path) -> None:
    async def close(path: Path) -> None:
        await (await open_database(path)).close()

    asyncio.run(close(first))
    asyncio.run(close(tmp_path / "new.sqlite3"))
    assert columns(first) == columns(tmp_path / "new.sqlite3")
    assert columns(first)["jobs"] == {column.name for column in metadata.tables["jobs"].columns}


def test_a_step_that_fails_changes_nothing(first: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(connection: Connection) -> None:
        connection.exec_driver_sql("ALTER TABLE images ADD COLUMN more TEXT")
        connection.exec_driver_sql("INSERT INTO nothing VALUES (1)")

    before = columns(first)
    monkeypatch.setattr(migrations, "STEPS", (*migrations.STEPS, half))
    with pytest.raises(StateError):
        asyncio.run(open_database(first))
    assert (version(first), columns(first)) == (1, before)
    monkeypatch.undo()

    async def open_and_read() -> dict[str, object]:
        return await first_job(await open_database(first))

    assert asyncio.run(open_and_read())["id"] == "a" * 32


def test_a_database_that_is_up_to_date_is_left_alone(tmp_path: Path) -> None:
    async def close(path: Path) -> None:
        await (await open_database(path)).close()

    path = tmp_path / "jobs.sqlite3"
    asyncio.run(close(path))
    before = columns(path)
    asyncio.run(close(path))
    assert (version(path), columns(path)) == (SCHEMA_VERSION, before)

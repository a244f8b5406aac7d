"""A database of each older schema is brought up to date with everything that is in it, at once or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, select

from imagegen.hardware.memory_needs import MemoryNeed, MemoryNeeds, NeedKey
from imagegen.hardware.needs_table import NeedsTable, read_needs
from imagegen.images.files import ImageFiles
from imagegen.images.store import ImageStore
from imagegen.schemas import Kind, StoredImage
from imagegen.storage import migrations
from imagegen.storage.database import Database, open_database
from imagegen.storage.errors import StateError
from imagegen.storage.migrations import SCHEMA_VERSION
from imagegen.storage.sqlite import _unusable
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


MEASUREMENT = {"id": 1, "model": "tiny", "what": "step", "pixels": 4096, "seconds": 0.5, "at": 1.5}
NOTE = {"key": "idle", "value": json.dumps({"knob": 1})}
ROWS: dict[str, dict[str, Any]] = {"jobs": JOB, "images": PICTURE, "measurements": MEASUREMENT, "notes": NOTE}
LATER: dict[int, dict[str, dict[str, Any]]] = {
    2: {"jobs": {"engine_texts": json.dumps({"prompt": "(a) red circle", "negative": ""})}},
    3: {"images": {"warnings": json.dumps([{"code": "transparency_on_white", "detail": "On white."}])}},
    4: {"jobs": {"preview": json.dumps({"every": 2}), "draft": 1}},
}
"""By schema: the columns that it adds, with the values of the one row."""
ADDED = [(step, table, name) for step, tables in LATER.items() for table, row in tables.items() for name in row]


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """A database as the first release made it, with one row in each table."""
    path = tmp_path / "jobs.sqlite3"
    with opened(path) as connection:
        connection.executescript(Path(__file__).with_name("schema_1.sql").read_text())
        for table, row in ROWS.items():
            values = ", ".join("?" * len(row))
            connection.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({values})", list(row.values()))
        connection.execute("PRAGMA user_version = 1")
    return path


def older(first: Path, version: int) -> dict[str, dict[str, Any]]:
    """Make `first` a database of schema `version`, with values in the columns of each step. Returns its rows."""
    engine = create_engine(f"sqlite:///{first}")
    with engine.begin() as connection:
        for step in migrations.STEPS[: version - 1]:
            step(connection)
    engine.dispose()
    with opened(first) as connection:
        for schema in range(2, version + 1):
            for table, values in LATER.get(schema, {}).items():
                columns = ", ".join(f"{name} = ?" for name in values)
                connection.execute(f"UPDATE {table} SET {columns}", list(values.values()))
        connection.execute(f"PRAGMA user_version = {version}")
    return rows(first)


def rows(path: Path) -> dict[str, dict[str, Any]]:
    """The one row of each table of the first release, by column."""
    with opened(path) as connection:
        connection.row_factory = sqlite3.Row
        return {table: dict(connection.execute(f"SELECT * FROM {table}").fetchone()) for table in ROWS}


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


async def open_and_close(path: Path) -> None:
    await (await open_database(path)).close()


@pytest.mark.parametrize("schema", range(1, SCHEMA_VERSION))
def test_every_earlier_schema_is_upgraded_and_keeps_its_rows(first: Path, tmp_path: Path, schema: int) -> None:
    before, had = older(first, schema), columns(first)
    assert had.keys() & metadata.tables.keys() == ROWS.keys(), "later tables are not there yet"
    assert all((name in had[table]) == (step <= schema) for step, table, name in ADDED)
    asyncio.run(open_and_close(first))
    asyncio.run(open_and_close(tmp_path / "new.sqlite3"))
    assert version(first) == SCHEMA_VERSION
    assert columns(first) == columns(tmp_path / "new.sqlite3")
    assert columns(first)["jobs"] == {column.name for column in metadata.tables["jobs"].columns}
    after = rows(first)
    assert {table: {name: after[table][name] for name in row} for table, row in before.items()} == before


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
    path = tmp_path / "jobs.sqlite3"
    asyncio.run(open_and_close(path))
    before = columns(path)
    asyncio.run(open_and_close(path))
    assert (version(path), columns(path)) == (SCHEMA_VERSION, before)


def test_schema_5_gets_the_table_of_memory_and_keeps_its_webhooks(first: Path) -> None:
    path = first
    older(path, 5)
    with opened(path) as connection:
        connection.execute(
            "CREATE TABLE webhooks (job_id VARCHAR(32) NOT NULL PRIMARY KEY, url TEXT NOT NULL, secret TEXT, "
            "attempts INTEGER NOT NULL, next_at FLOAT, delivered_at FLOAT, error TEXT)"
        )
        connection.execute("INSERT INTO webhooks (job_id, url, attempts) VALUES ('a', 'https://example.com', 2)")
    need = MemoryNeed(NeedKey("tiny", 14, Kind.GENERATE, "card"), 4096, 10**9)

    async def open_and_learn() -> None:
        database = await open_database(path)
        await NeedsTable(database, MemoryNeeds()).learn(need)
        await database.close()

    asyncio.run(open_and_learn())
    assert (version(path), read_needs(path).of("tiny", 14)) == (SCHEMA_VERSION, [need])
    with opened(path) as connection:
        assert connection.execute("SELECT url, attempts FROM webhooks").fetchall() == [("https://example.com", 2)]


def test_schema_6_numbers_its_pictures_by_age_and_finds_them_by_prompt(first: Path) -> None:
    older(first, 6)
    with opened(first) as connection:
        connection.execute("UPDATE images SET job_id = ?", [JOB["id"]])
        made = [{"id": "d" * 32, "created_at": 0.5}, {"id": "e" * 32, "created_at": 2.5, "expired_at": 3.0}]
        for row in [PICTURE | {"job_id": JOB["id"], "expired_at": None} | one for one in made]:
            marks = ", ".join("?" * len(row))
            connection.execute(f"INSERT INTO images ({', '.join(row)}) VALUES ({marks})", list(row.values()))
    asyncio.run(open_and_close(first))
    with opened(first) as connection:
        order = connection.execute("SELECT id, kept_at, board, note FROM images ORDER BY seq").fetchall()
        assert order == [(one * 32, None, None, None) for one in "dbe"]
        found = "SELECT id FROM images WHERE seq IN (SELECT rowid FROM image_search WHERE image_search MATCH 'circle')"
        assert connection.execute(f"{found} ORDER BY seq").fetchall() == [("d" * 32,), ("b" * 32,)]


def test_a_database_with_search_needs_a_python_that_has_it(tmp_path: Path) -> None:
    assert "FTS5" in _unusable(tmp_path, sqlite3.OperationalError("no such module: fts5"))

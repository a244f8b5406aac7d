"""The schema of a Postgres database: who upgrades it, beside which programs, and what a failed step leaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner
from postgres import PostgresServer
from postgres_databases import NOTE, PASSWORD, noted, of_a_newer_version, opened, write
from sqlalchemy import Connection, inspect

from imagegen.cli import cli
from imagegen.storage import migrations, postgres_look, postgres_schema
from imagegen.storage.errors import StateError, StateInUse
from imagegen.storage.migrations import SCHEMA_VERSION
from imagegen.storage.notes import Notes


def add_column(connection: Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE jobs ADD COLUMN more TEXT")


def fail_half_way(connection: Connection) -> None:
    add_column(connection)
    connection.exec_driver_sql("INSERT INTO nothing VALUES (1)")


class NextVersion:
    """A program with one more step."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step: Callable[[Connection], None], oldest: int) -> None:
        self._patch = monkeypatch
        monkeypatch.setattr(migrations, "STEPS", (*migrations.STEPS, step))
        for module in (postgres_schema, postgres_look):
            monkeypatch.setattr(module, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
            monkeypatch.setattr(module, "OLDEST_PROGRAM", oldest, raising=False)

    def leave(self) -> None:
        self._patch.undo()


def version(url: str) -> tuple[int, bool]:
    """The noted schema, and whether the new column is there."""
    with postgres_look.connected(url) as connection:
        columns = {column["name"] for column in inspect(connection).get_columns("jobs")}
        return postgres_schema.read_version(connection).schema, "more" in columns


def test_two_upgrades_at_once_make_one(postgres: PostgresServer) -> None:
    url = postgres.new_schema()
    with ThreadPoolExecutor() as threads:
        before = sorted(one.schema for one in threads.map(postgres_look.upgrade, [url, url]))
    assert before == [0, SCHEMA_VERSION]
    assert version(url) == (SCHEMA_VERSION, False)


def test_the_command_line_tells_the_schema_and_upgrades_it(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def told(url: str | None, *arguments: str) -> tuple[int, str]:
        monkeypatch.setenv("IMAGEGEN_HOME", str(tmp_path))
        if url is not None:
            monkeypatch.setenv("IMAGEGEN_DATABASE_URL", url)
        done = CliRunner().invoke(cli, ["database", *arguments])
        assert PASSWORD not in done.output
        return done.exit_code, done.output

    for url in (None, postgres.new_schema()):
        code, shown = told(url, "status")
        assert code == 3 and "no tables yet; this version knows schema" in shown
        assert told(url, "upgrade") == (0, f"The database was brought from schema 0 to {SCHEMA_VERSION}.\n")
        assert told(url, "upgrade") == (0, f"The database has schema {SCHEMA_VERSION} already.\n")
        code, shown = told(url, "status", "--json")
        assert (code, json.loads(shown)["schema"], json.loads(shown)["in_use"]) == (0, SCHEMA_VERSION, False)
    assert told(of_a_newer_version(postgres), "status")[0] == 4
    assert told(noted(postgres, version=99, oldest=SCHEMA_VERSION), "status")[0] == 0


def test_an_older_service_goes_on_beside_a_schema_that_only_adds(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        url = postgres.new_schema()
        old = await opened(url)
        newer = NextVersion(monkeypatch, add_column, oldest=SCHEMA_VERSION)
        before = await asyncio.to_thread(postgres_look.upgrade, url)
        newer.leave()
        assert (before.schema, version(url)) == (SCHEMA_VERSION, (SCHEMA_VERSION + 1, True))
        await write(old, NOTE)
        await old.close()
        again = await opened(url)
        assert await Notes(again).read("seen") == NOTE
        await again.close()
        assert version(url) == (SCHEMA_VERSION + 1, True)

    asyncio.run(run())


def test_an_upgrade_that_the_running_service_cannot_follow_waits(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        url = postgres.new_schema()
        old = await opened(url)
        newer = NextVersion(monkeypatch, add_column, oldest=SCHEMA_VERSION + 1)
        with pytest.raises(StateInUse, match="cannot go on with schema"):
            await asyncio.to_thread(postgres_look.upgrade, url)
        assert version(url) == (SCHEMA_VERSION, False)
        await old.close()
        await asyncio.to_thread(postgres_look.upgrade, url)
        newer.leave()
        with pytest.raises(StateError, match="newer imagegen"):
            await opened(url)

    asyncio.run(run())


def test_a_step_that_fails_changes_nothing_on_postgres(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres.new_schema()
    postgres_look.upgrade(url)
    newer = NextVersion(monkeypatch, fail_half_way, oldest=SCHEMA_VERSION)
    with pytest.raises(StateError, match="cannot be used"):
        asyncio.run(opened(url))
    newer.leave()
    assert version(url) == (SCHEMA_VERSION, False)

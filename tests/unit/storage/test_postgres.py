"""A Postgres database: who may use it, what a lost connection costs, and how its schema is upgraded."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
import state_folder
from click.testing import CliRunner
from postgres import PostgresServer
from served import ROOT, free_port
from sqlalchemy import Connection, inspect
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection

from imagegen.cli import cli
from imagegen.doctor import state as doctor
from imagegen.images.files import ImageFiles, new_id
from imagegen.images.store import ImageStore
from imagegen.schemas import Job
from imagegen.settings import Settings
from imagegen.storage import migrations, postgres_look, postgres_schema
from imagegen.storage.database import Database, open_database, storage_failure
from imagegen.storage.errors import DatabaseUnavailable, StateError, StateInUse
from imagegen.storage.migrations import SCHEMA_VERSION
from imagegen.storage.notes import Notes

PASSWORD = "pass-word"
NOTE = {"a": "note"}


def opened(url: str) -> Any:
    return open_database(Path("unused"), url)


async def write(database: Database, value: dict[str, Any]) -> None:
    """Write the note `seen`, with the errors that Notes.keep would only log."""
    async with database.writing() as connection:
        await connection.run_sync(postgres_schema.write_note, "seen", value)


# ---- a database that cannot be used ---------------------------------------------------------------------------


def nobody_listens(server: PostgresServer) -> str:
    return server.new_schema().replace(f":{server.port}/", f":{free_port()}/")


def wrong_password(server: PostgresServer) -> str:
    return server.new_schema().replace(PASSWORD, "another-pass-word")


def no_such_database(server: PostgresServer) -> str:
    return server.url("nothing")


def no_rights(server: PostgresServer) -> str:
    server.execute("CREATE DATABASE closed")
    return server.url("closed")


def no_unicode(server: PostgresServer) -> str:
    server.execute("CREATE DATABASE latin OWNER imagegen TEMPLATE template0 ENCODING latin1")
    return server.url("latin")


def of_another_program(server: PostgresServer) -> str:
    url = server.new_schema()
    with postgres_look.connected(url) as connection, connection.begin():
        connection.exec_driver_sql("CREATE TABLE jobs (number int)")
    return url


def of_a_newer_version(server: PostgresServer) -> str:
    return noted(server, version=99, oldest=99)


def noted(server: PostgresServer, **version: int) -> str:
    """A database whose schema is noted as `version`."""
    url = server.new_schema()
    postgres_look.upgrade(url)
    with postgres_look.connected(url) as connection, connection.begin():
        postgres_schema.write_note(connection, "schema", version)
    return url


REFUSED = [
    (nobody_listens, "cannot be reached: connection to server at"),
    (wrong_password, "refused the login: password authentication failed"),
    (no_such_database, "/nothing does not exist. Create it"),
    (no_rights, "permission denied for schema public. Make its user the owner"),
    (no_unicode, "has the encoding LATIN1"),
    (of_another_program, "tables of another program (jobs). Nothing was changed"),
    (of_a_newer_version, "upgraded by a newer imagegen (schema 99"),
]


@pytest.mark.parametrize(("plant", "words"), REFUSED, ids=lambda one: getattr(one, "__name__", ""))
def test_a_database_that_cannot_be_used_is_refused_in_a_sentence(
    postgres: PostgresServer, plant: Callable[[PostgresServer], str], words: str, tmp_path: Path
) -> None:
    url = plant(postgres)
    with pytest.raises(StateError) as refused:
        asyncio.run(opened(url))
    _connection, findings = doctor.database(Settings(home=tmp_path, database_url=url), held=False)
    told = [str(refused.value), *(f"{one.what} {one.do}" for one in findings)]
    assert words in told[0] and "\n" not in told[0]
    if plant is not no_unicode and plant is not no_rights:  # the doctor tries no write
        assert words in told[1]
    assert not any("pass-word" in one for one in told)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://a:pass-word@h/d", "postgresql://a:pass-word@h", "postgresql://a:pass-word@h:port/d",
        "postgresql://a:pass-@word@h/d", "postgresql://a:pass-word/x@h/d", "pass-word",
    ],
)  # fmt: skip
def test_a_url_that_is_none_is_refused_without_being_repeated(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEGEN_DATABASE_URL", url)
    done = CliRunner().invoke(cli, ["database", "status"])
    assert done.exit_code == 1
    assert str(done.exception).startswith("IMAGEGEN_DATABASE_URL=(hidden): must")
    assert "word" not in str(done.exception).replace("password", "").replace("PASSWORD", "")


# ---- one service ----------------------------------------------------------------------------------------------


def test_a_second_service_is_refused_until_the_first_has_ended(postgres: PostgresServer, tmp_path: Path) -> None:
    async def run() -> None:
        url = postgres.new_schema()
        first = await opened(url)
        with pytest.raises(StateInUse, match=r"Another service is using the database 127\.0\.0\.1:\d+/shared\. Stop"):
            await opened(url)
        elsewhere, (found,) = doctor.database(Settings(home=tmp_path, database_url=url), held=False)
        assert "is used by a service on another state folder" in found.what
        connection, (found,) = doctor.database(Settings(home=tmp_path, database_url=url), held=True)
        assert "(Postgres 18." in found.what and f"schema {SCHEMA_VERSION}." in found.what
        assert connection.execute("SELECT max(created_at) FROM jobs").fetchone() == (None,)
        connection.close()
        elsewhere.close()
        await Notes(first).keep("seen", NOTE)
        await first.close()
        second = await opened(url)
        assert await Notes(second).read("seen") == NOTE
        await second.close()

    asyncio.run(run())


def test_a_service_whose_database_was_taken_writes_no_more(postgres: PostgresServer) -> None:
    async def run() -> None:
        url = postgres.new_schema()
        first = await opened(url)
        postgres.disconnect(url)
        second = await opened(url)
        with pytest.raises(DBAPIError) as taken:
            await write(first, NOTE)
        assert str(storage_failure(taken.value)).startswith("Another service has taken the database 127.0.0.1:")
        assert first.lost.is_set() and not second.lost.is_set()
        await write(second, {"by": "the second"})
        assert await Notes(first).read("seen") == {"by": "the second"}
        await first.close()
        await second.close()

    asyncio.run(run())


# ---- connections that break -----------------------------------------------------------------------------------


def test_a_connection_that_broke_between_two_writes_is_made_again(postgres: PostgresServer) -> None:
    async def run() -> None:
        url = postgres.new_schema()
        database = await opened(url)
        for number in range(2):
            postgres.disconnect(url)
            await write(database, {"number": number})
            postgres.disconnect(url)
            assert await Notes(database).read("seen") == {"number": number}
        with contextlib.suppress(ZeroDivisionError):
            async with database.writing() as connection:
                await connection.run_sync(postgres_schema.write_note, "seen", {})
                _ = 1 / 0
        assert await Notes(database).read("seen") == {"number": 1}, "what raises is rolled back"
        await database.close()

    asyncio.run(run())


@pytest.mark.parametrize("happened", [True, False], ids=["happened", "lost"])
def test_a_commit_whose_answer_is_lost_is_known_afterwards(
    postgres: PostgresServer, happened: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        url = postgres.new_schema()
        database = await opened(url)
        await write(database, {"number": 1})
        commit = AsyncConnection.commit

        async def breaks(connection: AsyncConnection) -> None:
            monkeypatch.undo()
            if happened:
                await commit(connection)
                postgres.disconnect(url)
                raise OperationalError(None, None, psycopg.OperationalError("the connection is lost"))
            postgres.disconnect(url)
            await commit(connection)

        monkeypatch.setattr(AsyncConnection, "commit", breaks)
        if happened:
            await write(database, {"number": 2})
        else:
            with pytest.raises(DBAPIError) as lost:
                await write(database, {"number": 2})
            assert isinstance(storage_failure(lost.value), DatabaseUnavailable)
        assert await Notes(database).read("seen") == {"number": 2 if happened else 1}
        await write(database, {"number": 3})
        await database.close()

    asyncio.run(run())


# ---- the schema -----------------------------------------------------------------------------------------------


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


# ---- beside SQLite --------------------------------------------------------------------------------------------


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
    copied = CliRunner().invoke(cli, ["database", "copy"])
    assert copied.exit_code == 0 and "3 jobs" in copied.output and "1 images" in copied.output
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

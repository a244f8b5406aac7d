"""A Postgres database: who may use it, and what a lost connection costs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import state_folder
from click.testing import CliRunner
from postgres import PostgresServer
from postgres_databases import NOTE, PASSWORD, of_a_newer_version, opened, write
from served import free_port
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection

from imagegen.cli import cli
from imagegen.doctor import state as doctor
from imagegen.settings import Settings
from imagegen.storage import database as database_module
from imagegen.storage import postgres_look, postgres_schema
from imagegen.storage.database import storage_failure
from imagegen.storage.errors import DatabaseUnavailable, StateError, StateInUse
from imagegen.storage.migrations import SCHEMA_VERSION
from imagegen.storage.notes import Notes

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


def test_a_second_service_is_refused_until_the_first_has_ended(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "CLAIM_WAIT_S", 0.1)

    async def run() -> None:
        url = postgres.new_schema()
        first = await opened(url)
        with pytest.raises(StateInUse, match=r"Another service is using the database 127\.0\.0\.1:\d+/shared\. Stop"):
            await opened(url)
        elsewhere, (found,) = doctor.database(Settings(home=tmp_path, database_url=url), held=False)
        assert "is used by a service on another state folder" in found.what
        connection, (found,) = doctor.database(Settings(home=tmp_path, database_url=url), held=True)
        assert "(Postgres " in found.what and f"schema {SCHEMA_VERSION}." in found.what
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


def test_without_a_server_no_job_ends_and_the_service_can_stop(postgres: PostgresServer, tmp_path: Path) -> None:
    async def run() -> None:
        async with state_folder.opened(tmp_path) as state:
            running, waiting = await state.started(), await state.submit(lease_s=60.0)
            image = await state.written()
            postgres.stop()
            try:
                with pytest.raises(DBAPIError) as refused:
                    await state.jobs.cancel(waiting.id)
                assert isinstance(storage_failure(refused.value), DatabaseUnavailable)
                await state.jobs._lease_ran_out(waiting.id, 60.0)  # no client could renew it
                assert [one.id for one in state.jobs.active()] == [running.id, waiting.id]
                state.jobs.close()
                with pytest.raises(DBAPIError):
                    await state.jobs.complete(running, [image])
                await state.jobs.requeue(running.id, counted=False)
                assert [one.id for one in state.jobs.active()] == [running.id, waiting.id]
            finally:
                postgres.start()
        async with state_folder.opened(tmp_path) as state:
            assert [one.id for one in state.jobs.active()] == [running.id, waiting.id]
            assert await state.draw(running)

    token = state_folder.DATABASE_URL.set(postgres.new_schema())
    try:
        asyncio.run(run())
    finally:
        state_folder.DATABASE_URL.reset(token)

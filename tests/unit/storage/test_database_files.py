"""The database's files while it is open: a removed or replaced one is noticed, and no accepted job is lost by it."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from state_folder import opened, scenario

from imagegen.storage.database import open_database, storage_failure
from imagegen.storage.database_files import MAIN_GONE, PART_GONE, DatabaseFiles, parts

PARTS = ["", "-wal", "-shm"]


def beside(folder: Path, suffix: str) -> Path:
    return folder / f"jobs.sqlite3{suffix}"


def ids(database: Path) -> set[str]:
    """The jobs in the main file alone, as after a kill -9 of everything: -wal and -shm were removed."""
    copy = database.with_name("copy.sqlite3")
    shutil.copyfile(database, copy)
    with contextlib.closing(sqlite3.connect(copy)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'jobs'").fetchone():
            return set()
        return {row[0] for row in connection.execute("SELECT id FROM jobs")}


@pytest.mark.parametrize("suffix", PARTS)
@pytest.mark.parametrize("replaced", [False, True], ids=["removed", "replaced"])
def test_nothing_is_accepted_or_read_without_a_file(tmp_path: Path, suffix: str, replaced: bool) -> None:
    @scenario
    async def run(folder: Path) -> None:
        async with opened(folder) as state:
            before = await state.submit()
            file, aside = beside(folder, suffix), folder / "aside"
            file.rename(aside)
            if replaced:
                shutil.copyfile(aside, file)
            for attempt in (state.submit(), state.jobs.get(before.id), state.jobs.list(5)):
                with pytest.raises(OperationalError) as refused:
                    await attempt
                failure = storage_failure(refused.value)
                assert failure.code == "storage_error"
                assert "removed or replaced: restart the service" in str(failure)
            aside.replace(file)
            assert (await state.jobs.get(before.id)).id == before.id, "its return is enough"
            after = await state.submit()
            assert [job.id for job in await state.jobs.list(5)] == [after.id, before.id]

    run(tmp_path)


@pytest.mark.parametrize("suffix", PARTS[1:])
def test_jobs_accepted_before_the_log_was_removed_are_in_the_main_file(tmp_path: Path, suffix: str) -> None:
    @scenario
    async def run(folder: Path) -> None:
        async with opened(folder) as state:
            accepted = {(await state.submit()).id for _ in range(3)}
            assert ids(state.path) != accepted, "they are only in the log so far"
            beside(folder, suffix).unlink()
            with pytest.raises(OperationalError):
                await state.submit()
            assert ids(state.path) == accepted

    run(tmp_path)


def test_a_log_removed_while_a_job_is_written_does_not_lose_the_job(tmp_path: Path) -> None:
    @scenario
    async def run(folder: Path) -> None:
        async with opened(folder) as state:
            insert = state.images.insert

            async def removing(*given: object, **named: object) -> None:
                beside(folder, "-wal").unlink()
                await insert(*given, **named)  # type: ignore[arg-type]

            state.images.insert = removing  # type: ignore[method-assign]
            job = await state.submit()
            assert ids(state.path) == {job.id}

    run(tmp_path)


def test_a_stop_after_the_log_was_removed_keeps_every_job(tmp_path: Path) -> None:
    accepted: list[str] = []

    @scenario
    async def run(folder: Path) -> None:
        async with opened(folder) as state:
            accepted.append((await state.submit()).id)
            beside(folder, "-wal").unlink()
            beside(folder, "-shm").unlink()
        async with opened(folder) as state:
            assert [one.id for one in state.jobs.active()] == accepted

    run(tmp_path)


def test_the_files_keep_their_inodes_while_connections_come_and_go(tmp_path: Path) -> None:
    async def run() -> None:
        database = await open_database(tmp_path / "jobs.sqlite3")
        files = [part.stat().st_ino for part in parts(tmp_path / "jobs.sqlite3")]
        await database._engine.dispose()  # every connection but the one that holds the files
        async with database.reading() as connection:
            assert (await connection.execute(text("SELECT count(*) FROM jobs"))).scalar_one() == 0
        assert [part.stat().st_ino for part in parts(tmp_path / "jobs.sqlite3")] == files
        await database.close()

    asyncio.run(run())


def test_a_lost_main_file_counts_before_the_others(tmp_path: Path) -> None:
    path = tmp_path / "some.sqlite3"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE t (a)")
        files = DatabaseFiles(path)
        assert files.fault() is None
        parts(path)[1].rename(tmp_path / "log")
        assert files.fault() == PART_GONE
        path.rename(tmp_path / "main")
        assert files.fault() == MAIN_GONE
        files.close()


def test_a_reader_in_the_way_delays_the_copy_of_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    copied = "everything committed before is in the main file"
    path = tmp_path / "some.sqlite3"
    writer, reader = sqlite3.connect(path, isolation_level=None), sqlite3.connect(path, isolation_level=None)
    with contextlib.closing(writer), contextlib.closing(reader):
        writer.execute("PRAGMA journal_mode=WAL")
        writer.execute("CREATE TABLE jobs (id)")
        files = DatabaseFiles(path)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM jobs").fetchall()
        writer.execute("INSERT INTO jobs VALUES ('a')")
        parts(path)[1].unlink()
        assert files.fault() == PART_GONE
        assert copied not in caplog.text, "the reader still needs the older pages"
        reader.execute("COMMIT")
        assert files.fault() == PART_GONE
        assert copied in caplog.text
        assert ids(path) == {"a"}
        files.close()

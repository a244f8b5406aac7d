"""File descriptors: how many there may be, how connections share them, and how a shortage is recognised."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from imagegen.engines.base import EngineError
from imagegen.settings import Settings, SettingsError
from imagegen.storage import database, sqlite
from imagegen.storage.descriptors import DEFAULT_CONNECTIONS, RESERVED, are_short, connections_allowed
from imagegen.storage.errors import StorageError
from imagegen.storage.tables import jobs


def caused(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


EMFILE = OSError(errno.EMFILE, "Too many open files")
SHORT = [
    EMFILE,
    OSError(errno.ENFILE, "Too many open files in system"),
    caused(EngineError("load_failed", "The engine cannot be started."), EMFILE),
    caused(StorageError("The picture folder cannot be used."), EMFILE),
    caused(StorageError("one"), caused(ValueError("two"), EMFILE)),
]
OTHER = [
    None,
    ValueError("24"),
    OSError(errno.ENOSPC, "No space left on device"),
    caused(StorageError("full"), OSError(errno.ENOSPC, "No space left on device")),
    OperationalError(None, None, sqlite3.OperationalError("unable to open database file")),  # descriptors are free here
]


@pytest.mark.parametrize("error", SHORT, ids=repr)
def test_a_shortage_is_recognised_through_its_causes(error: Exception) -> None:
    assert are_short(error)


@pytest.mark.parametrize("error", OTHER, ids=repr)
def test_other_errors_are_no_shortage(error: Exception | None) -> None:
    assert not are_short(error)


def test_a_cycle_of_causes_ends() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert not are_short(first)


def test_sqlite_without_a_free_descriptor_is_a_shortage() -> None:
    failure = OperationalError(None, None, sqlite3.OperationalError("unable to open database file"))
    with Shortage():
        assert are_short(failure)


class Shortage:
    """This process can open nothing until `end`."""

    def __enter__(self) -> Shortage:
        self._before = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest = os.open(os.devnull, os.O_RDONLY)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, self._before[1]))
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, self._before)


@pytest.mark.parametrize("what", ["reading", "writing", "fetch"])
def test_the_database_waits_a_moment_for_a_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    async def ask(opened: database.Database) -> int:
        if what == "fetch":
            return len(await opened.fetch(jobs.select()))
        async with opened.reading() if what == "reading" else opened.writing() as connection:
            return len((await connection.execute(jobs.select())).all())

    async def run() -> None:
        opened = await database.open_database(tmp_path / "jobs.sqlite3")
        noticed = 0
        async with opened.reading() as held:  # the only connection there is
            await held.execute(text("SELECT 1"))
            with Shortage() as shortage:

                def look(error: BaseException | None) -> bool:
                    nonlocal noticed
                    noticed += 1
                    short = are_short(error)
                    shortage.end()
                    return short

                monkeypatch.setattr(sqlite, "are_short", look)
                assert await ask(opened) == 0
        assert noticed == 1
        await opened.close()

    asyncio.run(run())


def test_connections_get_what_the_limit_leaves() -> None:
    assert connections_allowed(Settings(), 1024) == 1024 - RESERVED
    assert connections_allowed(Settings(), 65_536) == DEFAULT_CONNECTIONS
    assert connections_allowed(Settings(max_connections=5000), 65_536) == 5000


def test_a_limit_that_is_too_low_is_refused() -> None:
    with pytest.raises(SettingsError, match=f"IMAGEGEN_MAX_CONNECTIONS=900: .* Lower the setting to {1024 - RESERVED}"):
        connections_allowed(Settings(max_connections=900), 1024)
    with pytest.raises(SettingsError, match="may open 256 files; the service needs at least"):
        connections_allowed(Settings(), 256)


@pytest.mark.parametrize(("soft", "hard", "then"), [(100, 300, 300), (300, 300, 300)])
def test_the_soft_limit_is_raised_to_the_hard_one(soft: int, hard: int, then: int) -> None:
    program = f"""
import resource
from imagegen.storage import descriptors
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
print(descriptors.raise_limit(), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""
    root = Path(__file__).parents[3]
    told = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert told.stdout.split() == [str(then), str(then), str(hard)]

"""Opens, reads and writes the SQLite database of the state folder.

WAL with `synchronous=FULL`: a commit is on the disk before the service answers. One service owns the folder (see
`lock_state_folder`), so no other process writes. Readers never wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import IO, Any

from sqlalchemy import Connection, Row, Select, create_engine, event, text
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from imagegen.storage import database_files, permissions, search
from imagegen.storage.database_files import MAIN_GONE, PART_GONE, DatabaseFiles
from imagegen.storage.descriptors import are_short
from imagegen.storage.errors import StorageError, StorageFull
from imagegen.storage.migrations import SCHEMA_VERSION, migrate
from imagegen.storage.tables import metadata

log = logging.getLogger("imagegen.database")


class StateError(Exception):
    """The state folder cannot be used. The message has the reason and the remedy."""


class StateInUse(StateError):
    """A running service holds the state folder's lock."""


READ_THREADS = 2
SHORTAGE_PAUSES_S = (0.1, 0.3, 1.0, 2.0)
"""Pauses between attempts to open the database when no file descriptor is free."""
CLAIM_WAIT_S = 3.0
"""How long to wait for the lock: a killed service may take a moment to exit."""


def lock_state_folder(home: Path, wait_s: float = CLAIM_WAIT_S) -> IO[bytes]:
    """Create the state folder, restrict it to this user, and lock it. The lock holds while the returned file is open.

    Raises StateError if the folder cannot be created or written, StateInUse if another service holds the lock for
    more than `wait_s` seconds.
    """
    try:
        permissions.make_folder(home)
        still_open = permissions.restrict(home)
        lock = os.fdopen(permissions.open_private(home / "lock", os.O_WRONLY | os.O_APPEND), "ab")
    except OSError as failure:
        raise StateError(
            f"The state folder {home} cannot be used: {os.strerror(failure.errno or errno.EIO)}. "
            "Make it writable for this user, or name another one with IMAGEGEN_HOME."
        ) from None
    deadline = time.monotonic() + wait_s
    while not _locked(lock):
        if time.monotonic() < deadline:
            time.sleep(0.05)
            continue
        lock.close()
        raise StateInUse(
            f"Another service is using the state folder {home}. Stop it first, or give this one "
            "a folder of its own with IMAGEGEN_HOME."
        )
    if still_open:
        log.warning(
            "others can use %d files or folders of the state folder, and this user cannot change that: "
            "make them its own and set the folder to mode 0700",
            len(still_open),
        )
    return lock


class Database:
    """The open database: `reading()` yields a connection, `writing()` a transaction; one writer at a time."""

    def __init__(self, engine: AsyncEngine, path: Path) -> None:
        self._engine, self._files = engine, DatabaseFiles(path)
        self._reader = create_engine(f"sqlite:///{path}", connect_args={"timeout": 10.0}, hide_parameters=True)
        event.listen(self._reader, "connect", _configure)
        self._threads = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="reads")
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        self._check_file_unchanged()
        async with AsyncExitStack() as stack:
            yield await self._connected(stack)

    async def fetch(self, statement: Select[Any], **values: Any) -> Sequence[Row[Any]]:
        """All rows of one query, for queries that run hundreds of times a second.

        It switches threads once. aiosqlite switches for each of cursor, execute, fetch, close and rollback.
        """
        self._check_file_unchanged()
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._fetch, statement, values)

    def _fetch(self, statement: Select[Any], values: dict[str, Any]) -> Sequence[Row[Any]]:
        for pause_s in (*SHORTAGE_PAUSES_S, None):
            try:
                with self._reader.connect() as connection:
                    return connection.execute(statement, values).all()
            except OperationalError as refused:
                if pause_s is None or not are_short(refused):
                    raise
                time.sleep(pause_s)
        raise AssertionError("unreachable")

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """A transaction, committed at the end of the block, or rolled back if the block raises or is cancelled."""
        async with self._lock:
            self._check_file_unchanged()
            async with AsyncExitStack() as stack:
                connection = await self._connected(stack)
                await stack.enter_async_context(connection.begin())
                yield connection
            self._files.written()
            if self._files.fault() == MAIN_GONE:  # lost during the write; a lost log has been copied
                raise _gone(MAIN_GONE)

    async def _connected(self, stack: AsyncExitStack) -> AsyncConnection:
        """A connection that `stack` closes. Retries while no file descriptor is free."""
        for pause_s in (*SHORTAGE_PAUSES_S, None):
            try:
                return await stack.enter_async_context(self._engine.connect())
            except OperationalError as refused:
                if pause_s is None or not are_short(refused):
                    raise
                await asyncio.sleep(pause_s)
        raise AssertionError("unreachable")

    def _check_file_unchanged(self) -> None:
        """Raises OperationalError if a database file was removed or replaced.

        SQLite would continue to use the open file, whose data is lost on close, and create an empty file for its
        next connection.
        """
        if (fault := self._files.fault()) is not None:
            raise _gone(fault)

    async def close(self) -> None:
        await self._engine.dispose()
        self._threads.shutdown()
        self._reader.dispose()
        self._files.close()


def _gone(fault: str) -> OperationalError:
    return OperationalError(None, None, sqlite3.OperationalError(fault))


def storage_failure(failure: Exception) -> StorageError:
    """The StorageError for `failure`; StorageFull if the disk is full. Its message contains no path of the host.

    failure: sqlalchemy's DBAPIError, or a StorageError, which is returned unchanged.
    """
    if isinstance(failure, StorageError):
        return failure
    reason = str(getattr(failure, "orig", None) or failure)
    if "full" in reason:
        return StorageFull("The disk with the state folder is full: free some space, then try again.")
    if reason == MAIN_GONE:
        return StorageError("The service's database was removed or replaced: restart the service to have it anew.")
    if reason == PART_GONE:
        return StorageError("The -wal or -shm file of the database was removed or replaced: restart the service.")
    if "readonly" in reason or "unable to open" in reason:
        return StorageError(f"The state folder cannot be written ({reason}): make it writable for the service's user.")
    if "malformed" in reason or "not a database" in reason:
        return StorageError(f"The service's database is damaged ({reason}): restart the service, and it says more.")
    return StorageError(f"The service's database cannot be used ({reason}): look at the system's log.")


def _locked(lock: IO[bytes]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


async def open_database(path: Path) -> Database:
    """Open or create the database. Raises StateError if it is unusable, corrupt, or written by a newer version."""
    with contextlib.suppress(OSError):  # SQLite fails at the same file, with a reason
        database_files.make_private(path)
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}", connect_args={"timeout": 10.0}, hide_parameters=True)
    event.listen(engine.sync_engine, "connect", _configure)
    try:
        async with engine.begin() as connection:
            found = (await connection.execute(text("PRAGMA quick_check(1)"))).scalar_one()
            if found != "ok":
                raise sqlite3.DatabaseError(str(found))
            version = int((await connection.execute(text("PRAGMA user_version"))).scalar_one())
            if version > SCHEMA_VERSION:
                raise StateError(
                    f"The state folder was last used by a newer imagegen (schema {version}; this one knows "
                    f"{SCHEMA_VERSION}). Install that version again, or name another folder with IMAGEGEN_HOME."
                )
            await connection.run_sync(_bring_up_to_date, version)
        return Database(engine, path)
    except (DatabaseError, sqlite3.DatabaseError) as failure:
        await engine.dispose()
        raise StateError(_unusable(path, failure)) from None
    except StateError:
        await engine.dispose()
        raise


def _bring_up_to_date(connection: Connection, version: int) -> None:
    """Create the current schema, or migrate an older one to it, in one transaction."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")  # sqlite3 does not begin a transaction before DDL
    if version:
        migrate(connection, version)
    metadata.create_all(connection)
    search.create(connection)
    connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")
    if 0 < version < SCHEMA_VERSION:
        log.info("the database was brought from schema %d to %d", version, SCHEMA_VERSION)


def _unusable(path: Path, failure: Exception) -> str:
    reason = str(getattr(failure, "orig", None) or failure)
    if "readonly" in reason or "unable to open" in reason:
        return f"The database {path} cannot be written ({reason}). Make it and its folder writable for this user."
    if "full" in reason or "disk I/O" in reason:
        return f"The database {path} cannot be opened ({reason}). Free some disk space and start again."
    if "fts5" in reason:
        return "This Python's SQLite has no full-text search (FTS5), which the service needs. Use another Python."
    return (
        f"The database {path} is damaged ({reason}). Nothing was changed. Put a backup in its place, or move it "
        "away to start with an empty queue (pictures without a row are then removed)."
    )


def _configure(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA busy_timeout=10000")
    cursor.close()

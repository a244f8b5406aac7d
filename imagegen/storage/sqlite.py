"""The SQLite file of the state folder: a single host's database.

WAL with `synchronous=FULL`: a commit is on the disk before the service answers. One service owns the folder (see
`lock_state_folder`), so no other process writes. Readers never wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, Select, create_engine, event, text
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from imagegen.storage import database_files, search
from imagegen.storage.database_files import MAIN_GONE, DatabaseFiles
from imagegen.storage.descriptors import are_short
from imagegen.storage.errors import StateError
from imagegen.storage.migrations import SCHEMA_VERSION, migrate
from imagegen.storage.tables import metadata

log = logging.getLogger("imagegen.database")

READ_THREADS = 2
SHORTAGE_PAUSES_S = (0.1, 0.3, 1.0, 2.0)
"""Pauses between attempts to open the database when no file descriptor is free."""


class SqliteDatabase:
    """The open file; implements `database.Database`."""

    identity = "sqlite"

    def __init__(self, engine: AsyncEngine, path: Path) -> None:
        self.lost = asyncio.Event()  # never set: the state folder's lock lasts as long as the process
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


async def open_sqlite(path: Path) -> SqliteDatabase:
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
        return SqliteDatabase(engine, path)
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

"""The Postgres database of IMAGEGEN_DATABASE_URL.

One connection, the *writer*, makes every write, and its session holds the service's advisory lock: a process that can
write owns the database. If the writer is lost (the server restarts, a network breaks), the next write connects again,
takes the lock again, and checks in the note `service` that no other service had it meanwhile.

A commit whose answer is lost may have happened. Each transaction therefore writes its number into that note, and the
number that is found after the reconnect says which it was.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from sqlalchemy import URL, Connection, NullPool, Row, Select, bindparam, select, text, update
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from imagegen.storage import postgres_schema as schema
from imagegen.storage.errors import StateError, StateInUse
from imagegen.storage.postgres_errors import TakenOver, is_unavailable, missing_driver, start_failure
from imagegen.storage.postgres_look import BOOT_WAIT_S, is_booting
from imagegen.storage.postgres_url import connect_args, driver_url, replace_nul, shown
from imagegen.storage.tables import notes

log = logging.getLogger("imagegen.database")

RETRY_S = 0.5
"""The least time between two attempts to connect the writer. In between, writes fail at once."""
OWNER = select(notes.c.value).where(notes.c.key == "service")
MARK = update(notes).where(notes.c.key == "service").values(value=bindparam("mark"))
PING = select(1)
KEEPALIVE = text(
    "SELECT set_config('tcp_keepalives_idle', '10', false), set_config('tcp_keepalives_interval', '5', false), "
    "set_config('tcp_keepalives_count', '3', false)"
)
"""The server frees the lock of a host that lost its power after 25 s."""


class PostgresDatabase:
    """The open database; implements `database.Database`."""

    def __init__(self, url: URL, readers: AsyncEngine, writers: AsyncEngine, first: AsyncConnection) -> None:
        """first: the writer, which holds the lock."""
        self._where, self._readers, self._writers = shown(url), readers, writers
        self._writer: AsyncConnection | None = first
        self._lock = asyncio.Lock()
        self._service, self._number = uuid.uuid4().hex, 0  # of this process; of its latest transaction
        self._refused: tuple[float, DBAPIError] | None = None  # when and why the last attempt to connect failed
        self._in_doubt = self._closing = False
        self.lost = asyncio.Event()
        self.identity = ""

    async def claim(self) -> None:
        """Write this service's name into the database, and read the database's."""
        assert self._writer is not None
        await self._writer.run_sync(schema.write_note, "service", self._mark())
        self.identity = await self._writer.run_sync(_identity)
        await self._writer.commit()

    # ---- reads --------------------------------------------------------------------------------

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        async with self._readers.connect() as connection:
            yield connection

    async def fetch(self, statement: Select[Any], **values: Any) -> Sequence[Row[Any]]:
        async with self._readers.connect() as connection:
            return (await connection.execute(statement, values)).all()

    # ---- writes -------------------------------------------------------------------------------

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """A transaction. Raises DBAPIError at once while the server cannot be reached.

        If the connection breaks during the commit, it waits for the server, to know whether the commit happened.
        """
        if self._in_doubt:
            raise _no_answer()
        async with self._lock:
            connection = await self._ready()
            try:
                yield connection
                self._number += 1
                await connection.execute(MARK, {"mark": self._mark()})
            except BaseException:
                await self._roll_back()
                raise
            await self._commit(connection)

    async def _ready(self) -> AsyncConnection:
        """The writer in a new transaction, connected again if it was lost."""
        if self._writer is not None:
            try:
                await self._writer.execute(PING)
                return self._writer
            except BaseException as broken:  # also if cancelled: the connection may wait for an answer
                await self._drop()
                if not (isinstance(broken, DBAPIError) and is_unavailable(broken)):
                    raise
        connection, _mark = await self._connect()
        return connection

    async def _commit(self, connection: AsyncConnection) -> None:
        try:
            await connection.commit()
        except DBAPIError as broken:
            await self._drop()
            if not await self._was_committed():
                raise
            log.warning("a commit whose answer was lost is found in the database (%s)", type(broken.orig).__name__)
        except BaseException:  # cancelled: the server may do either
            await self._drop()
            raise

    async def _was_committed(self) -> bool:
        """Whether the latest transaction is in the database. Waits until the server answers, or the service ends."""
        self._in_doubt = True
        try:
            while not self._closing:
                try:
                    _connection, found = await self._connect()
                    return found == self._mark()
                except DBAPIError:
                    if self.lost.is_set():
                        return False
                    await asyncio.sleep(RETRY_S)
            return False
        finally:
            self._in_doubt = False

    async def _roll_back(self) -> None:
        try:
            if self._writer is not None:
                await self._writer.rollback()
        except Exception:
            await self._drop()

    async def _drop(self) -> None:
        """Close the writer. With it go its transaction and its lock."""
        writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(Exception):
                await writer.invalidate()
            with suppress(Exception):
                await writer.close()

    # ---- the writer's connection --------------------------------------------------------------

    async def _connect(self) -> tuple[AsyncConnection, Any]:
        """Connect the writer and take the lock. Returns it, in a transaction, with the note `service`.

        Raises DBAPIError: the server cannot be reached, or another service has taken the database.
        """
        if self.lost.is_set():
            raise self._taken()
        if self._refused is not None and time.monotonic() - self._refused[0] < RETRY_S:
            raise _no_answer() from self._refused[1]
        connection = None
        try:
            connection = await self._writers.connect()
            locked = await connection.run_sync(_prepare)
            owner = (await connection.execute(OWNER)).scalar()
        except BaseException as refused:
            if isinstance(refused, DBAPIError):
                self._refused = time.monotonic(), refused
            if connection is not None:
                await connection.close()
            raise
        if (owner or {}).get("service") != self._service:
            await connection.close()
            self.lost.set()
            raise self._taken()
        if not locked:  # the server has not yet noticed the end of the connection before
            await connection.close()
            self._refused = time.monotonic(), _no_answer()
            raise _no_answer()
        self._writer, self._refused = connection, None
        log.info("connected to the database %s again", self._where)
        return connection, owner

    def _mark(self) -> dict[str, Any]:
        return {"service": self._service, "transaction": self._number}

    def _taken(self) -> OperationalError:
        words = f"Another service has taken the database {self._where}, so this one stops."
        return OperationalError(None, None, TakenOver(words))

    async def close(self) -> None:
        self._closing = True
        async with self._lock:
            await self._drop()
        await self._readers.dispose()
        await self._writers.dispose()


def _no_answer() -> OperationalError:
    return OperationalError(None, None, _NoAnswer("the server cannot be reached"))


class _NoAnswer(Exception):
    sqlstate = "08006"


def _prepare(connection: Connection) -> bool:
    """Set up a new writer. Returns whether it holds the lock."""
    connection.execute(KEEPALIVE)
    locked = schema.lock_service(connection)
    connection.commit()  # what follows is a transaction of its own
    return locked


def _identity(connection: Connection) -> str:
    """The database's own name, made with its first service."""
    found = connection.execute(select(notes.c.value).where(notes.c.key == "identity")).scalar()
    if isinstance(found, str):
        return found
    made = uuid.uuid4().hex
    schema.write_note(connection, "identity", made)
    return made


async def open_postgres(text_url: str, wait_s: float) -> PostgresDatabase:
    """Connect, take the service's lock within `wait_s` seconds, and bring the schema up to date. Raises StateError."""
    url = driver_url(text_url)
    args = connect_args(url)
    try:
        writers = create_async_engine(url, poolclass=NullPool, connect_args=args, hide_parameters=True)
        readers = create_async_engine(
            url, pool_pre_ping=True, isolation_level="AUTOCOMMIT", connect_args=args, hide_parameters=True
        )
    except ModuleNotFoundError as missing:
        raise missing_driver(missing) from None
    for engine in (writers, readers):
        replace_nul(engine.sync_engine)
    connection = None
    try:
        connection = await _first_connection(writers)
        await _claim_lock(connection, url, wait_s)
        await connection.run_sync(schema.check_encoding)
        await connection.run_sync(schema.upgrade)
        await connection.commit()
        database = PostgresDatabase(url, readers, writers, connection)
        await database.claim()
    except (SQLAlchemyError, StateError) as failure:
        if connection is not None:
            with suppress(SQLAlchemyError):
                await connection.close()
        await writers.dispose()
        await readers.dispose()
        raise failure if isinstance(failure, StateError) else start_failure(shown(url), failure) from None
    log.info("jobs are kept in the database %s", shown(url))
    return database


async def _first_connection(writers: AsyncEngine) -> AsyncConnection:
    """Connect. Waits for a server that is starting, not for one that does not answer."""
    deadline = time.monotonic() + BOOT_WAIT_S
    while True:
        try:
            return await writers.connect()
        except OperationalError as refused:
            if not is_booting(refused) or time.monotonic() > deadline:
                raise
        await asyncio.sleep(RETRY_S)


async def _claim_lock(connection: AsyncConnection, url: URL, wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    while not await connection.run_sync(_prepare):
        if time.monotonic() > deadline:
            raise StateInUse(
                f"Another service is using the database {shown(url)}. Stop it first, or give this one "
                "a database of its own with IMAGEGEN_DATABASE_URL."
            )
        await asyncio.sleep(0.05)

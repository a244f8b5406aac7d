"""NeedsTable: stores the memory that pictures took in the database."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.exc import DBAPIError

from imagegen.hardware.memory_needs import MemoryNeed, MemoryNeeds, NeedKey
from imagegen.schemas import Kind
from imagegen.storage.database import Database, storage_failure
from imagegen.storage.errors import StateError
from imagegen.storage.postgres_look import connected
from imagegen.storage.tables import memory_needs as table

log = logging.getLogger("imagegen")

ROWS_PER_MODEL = 200
"""The newest rows kept for each model."""


class NeedsTable:
    """The `memory_needs` table, loaded into `needs`."""

    def __init__(self, database: Database, needs: MemoryNeeds) -> None:
        self._database, self._needs = database, needs

    async def read(self) -> None:
        """Load the stored measurements, oldest first, at the service's start."""
        async with self._database.reading() as connection:
            rows = await connection.execute(select(table).order_by(table.c.id))
            for one in _needs(row._mapping for row in rows):
                self._needs.add(one)

    async def learn(self, one: MemoryNeed) -> None:
        """Add and store a measurement if it is news. If the disk is full, it is lost at the next restart."""
        news = self._needs.is_news(one)
        self._needs.add(one)
        if not news:
            return
        try:
            await self._keep(one)
        except DBAPIError as full:
            log.warning("a measurement of memory cannot be written (%s)", storage_failure(full))

    async def _keep(self, one: MemoryNeed) -> None:
        values = one.key._asdict() | {"pixels": one.pixels, "bytes": one.bytes, "failed": one.failed}
        own = table.c.model == one.key.model
        async with self._database.writing() as connection:
            await connection.execute(insert(table).values(**values, at=time.time()))
            kept = select(table.c.id).where(own).order_by(table.c.id.desc()).limit(ROWS_PER_MODEL)
            await connection.execute(delete(table).where(own, table.c.id.not_in(kept)))


def read_needs(path: Path, url: str | None = None) -> MemoryNeeds:
    """The measurements in the SQLite file `path` or the Postgres database `url`, read without a service.

    Empty if they cannot be read.
    """
    if url is not None:
        return _read_from_server(url)
    try:
        connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=10)
    except sqlite3.Error:
        return MemoryNeeds()
    try:
        connection.row_factory = sqlite3.Row
        rows = connection.execute("SELECT * FROM memory_needs ORDER BY id")
        return MemoryNeeds(_needs(dict(row) for row in rows))
    except sqlite3.Error:  # an older schema, or a damaged file, which the service and the doctor report
        return MemoryNeeds()
    finally:
        connection.close()


def _read_from_server(url: str) -> MemoryNeeds:
    try:
        with connected(url) as connection:
            return MemoryNeeds(_needs(row._mapping for row in connection.execute(select(table).order_by(table.c.id))))
    except StateError:
        return MemoryNeeds()


def _needs(rows: Iterable[Any]) -> Iterable[MemoryNeed]:
    for row in rows:
        key = NeedKey(row["model"], row["files_bytes"], Kind(row["kind"]), row["mode"])
        yield MemoryNeed(key, row["pixels"], row["bytes"], bool(row["failed"]))

"""Notes: small JSON objects stored by key."""

from __future__ import annotations

import logging
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.exc import DBAPIError

from imagegen.storage.database import Database, storage_failure
from imagegen.storage.tables import notes as table

log = logging.getLogger("imagegen")


class Notes:
    """The `notes` table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, key: str) -> dict[str, Any]:
        """The note `key`; empty if there is none."""
        async with self._database.reading() as connection:
            value = (await connection.execute(select(table.c.value).where(table.c.key == key))).scalar()
        return value if isinstance(value, dict) else {}

    async def keep(self, key: str, value: dict[str, Any]) -> None:
        """Write `value` in place of the previous note. A storage error is only logged, and the note is lost."""
        try:
            async with self._database.writing() as connection:
                await connection.execute(delete(table).where(table.c.key == key))
                await connection.execute(insert(table).values(key=key, value=value))
        except DBAPIError as full:
            log.warning("%s cannot be kept (%s)", key, storage_failure(full))

"""The schema of a Postgres database: its version, its upgrade, and the locks that guard both.

The version is the note `schema`. `oldest` in it is the oldest schema whose program may use the database: a program
that is older than the database, but not older than `oldest`, goes on working during a rollout.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, insert, inspect, select, text

from imagegen.storage import search
from imagegen.storage.errors import StateError
from imagegen.storage.migrations import OLDEST_PROGRAM, SCHEMA_VERSION, migrate
from imagegen.storage.tables import metadata, notes

log = logging.getLogger("imagegen.database")

SERVICE_LOCK, SCHEMA_LOCK = 1_768_776_001, 1_768_776_002
"""Advisory locks: of the running service, and of an upgrade. Each schema of a database has its own."""
LOCK_TIMEOUT = "10s"
"""How long an upgrade waits for tables that other sessions use."""


@dataclass(frozen=True)
class Version:
    """schema: 0 without tables. oldest: the oldest schema whose program may use the database."""

    schema: int
    oldest: int

    @property
    def usable(self) -> bool:
        """Whether this program may use the database, after an upgrade if it is older."""
        return self.schema <= SCHEMA_VERSION or self.oldest <= SCHEMA_VERSION


def read_version(connection: Connection) -> Version:
    """The version of the database. Raises StateError if its tables are another program's."""
    found = set(inspect(connection).get_table_names())
    if notes.name in found:
        row = connection.execute(select(notes.c.value).where(notes.c.key == "schema")).scalar()
        if isinstance(row, dict):
            return Version(int(row["version"]), int(row["oldest"]))
    if others := sorted(found & metadata.tables.keys()):
        raise StateError(
            f"The database has tables of another program ({', '.join(others)}). Nothing was changed. "
            "Name an empty database with IMAGEGEN_DATABASE_URL."
        )
    return Version(0, 0)


def check_usable(found: Version) -> None:
    """Raises StateError for a newer database that this program may not use."""
    if not found.usable:
        raise StateError(
            f"The database was upgraded by a newer imagegen (schema {found.schema}; this one knows "
            f"{SCHEMA_VERSION}). Install that version again, or name another database."
        )


def upgrade(connection: Connection) -> Version:
    """Create the current schema, or upgrade an older one to it, in the caller's transaction. Returns what there was.

    Concurrent upgrades wait for each other. Raises StateError, with nothing changed, for a newer database that this
    program may not use.
    """
    connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
    connection.execute(select(func.pg_advisory_xact_lock(SCHEMA_LOCK, _schema())))
    before = read_version(connection)
    check_usable(before)
    if before.schema > SCHEMA_VERSION:
        log.info("the database is of a newer imagegen (schema %d), which this one may use", before.schema)
        return before
    if before.schema < SCHEMA_VERSION:
        if before.schema:
            migrate(connection, before.schema)
        metadata.create_all(connection)
        search.create(connection)
        write_note(connection, "schema", {"version": SCHEMA_VERSION, "oldest": OLDEST_PROGRAM})
        log.info("the database was brought from schema %d to %d", before.schema, SCHEMA_VERSION)
    return before


def write_note(connection: Connection, key: str, value: Any) -> None:
    connection.execute(delete(notes).where(notes.c.key == key))
    connection.execute(insert(notes).values(key=key, value=value))


def lock_service(connection: Connection) -> bool:
    """Take the lock of the one service that writes to this database; it lasts as long as the connection."""
    return bool(connection.execute(select(func.pg_try_advisory_lock(SERVICE_LOCK, _schema()))).scalar_one())


def is_in_use(connection: Connection) -> bool:
    """Whether a service holds the lock. Takes it for a moment if none does."""
    if not lock_service(connection):
        return True
    connection.execute(select(func.pg_advisory_unlock(SERVICE_LOCK, _schema())))
    return False


def check_encoding(connection: Connection) -> None:
    """Raises StateError unless the database can hold every text."""
    encoding = connection.execute(text("SHOW server_encoding")).scalar_one()
    if encoding != "UTF8":
        raise StateError(
            f"The database has the encoding {encoding}, which cannot hold every prompt. Create one with UTF8: "
            "createdb --encoding UTF8 --template template0"
        )


def _schema() -> Any:
    return func.hashtext(func.coalesce(func.current_schema(), ""))

"""Copies the rows of a SQLite file into an empty Postgres database, in one transaction."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, Table, create_engine, func, insert, select

from imagegen.storage import postgres_schema as schema
from imagegen.storage.errors import StateError, StateInUse
from imagegen.storage.postgres_look import connected
from imagegen.storage.tables import images, jobs, metadata, notes

OF_THE_DATABASE = ("schema", "service", "identity")
"""Notes that say something of one database."""
ROWS_AT_ONCE = 500


def copy_rows(path: Path, url: str) -> dict[str, int]:
    """Copy every table of the file `path`, which has the current schema. Returns the number of rows by table.

    Raises StateError, with nothing changed: the database has jobs or pictures, or a service uses it.
    """
    source = create_engine(f"sqlite:///{path}", hide_parameters=True)
    try:
        with source.connect() as old, connected(url) as new, new.begin():
            schema.check_encoding(new)
            if not schema.lock_service(new):
                raise StateInUse("A service is using the Postgres database. Stop it first. Nothing was copied.")
            schema.upgrade(new)
            if any(new.execute(select(func.count()).select_from(table)).scalar_one() for table in (jobs, images)):
                raise StateError("The Postgres database has jobs or pictures already. Nothing was copied.")
            ordered = sorted(metadata.sorted_tables, key=lambda table: table is not jobs)  # prompts, before the search
            return {table.name: _copy(table, old, new) for table in ordered}
    finally:
        source.dispose()


def _copy(table: Table, old: Connection, new: Connection) -> int:
    rows = [dict(row) for row in old.execute(select(table)).mappings()]
    if table is notes:
        rows = [row for row in rows if row["key"] not in OF_THE_DATABASE]
        new.execute(notes.delete().where(notes.c.key.in_([row["key"] for row in rows])))
    else:
        new.execute(table.delete())
    for start in range(0, len(rows), ROWS_AT_ONCE):
        new.execute(insert(table), rows[start : start + ROWS_AT_ONCE])
    for column in table.primary_key:
        if column.autoincrement is True and rows:
            newest = max(row[column.name] for row in rows)
            new.execute(select(func.setval(func.pg_get_serial_sequence(table.name, column.name), newest)))
    return len(rows)

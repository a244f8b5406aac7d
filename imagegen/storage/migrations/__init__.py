"""The steps that upgrade the schema of an older database, oldest first.

A step is a function `(connection) -> None` that changes existing tables. `create_all` creates new tables after the
steps. A released step never changes, and it uses no definition of storage/tables.py, because those change.
The schema's version is SQLite's user_version, and a note in Postgres; 1 is the schema of the first release. Postgres
databases begin with schema 7, so earlier steps run on SQLite only, and later ones on both.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection

from imagegen.storage.migrations import step_2, step_3, step_4, step_5, step_6, step_7

STEPS: tuple[Callable[[Connection], None], ...] = (
    step_2.upgrade,
    step_3.upgrade,
    step_4.upgrade,
    step_5.upgrade,
    step_6.upgrade,
    step_7.upgrade,
)
SCHEMA_VERSION = 1 + len(STEPS)
OLDEST_PROGRAM = 7
"""The oldest schema whose program may use a Postgres database of SCHEMA_VERSION, beside the current program or after
it. It stays where a step only adds what an older program may ignore: tables, and columns with a default. A step that an
older program would break, or whose rows it would break, raises it to its own number."""


def migrate(connection: Connection, version: int) -> None:
    """Run the steps that a database of schema `version` (1 or later) lacks, in the caller's transaction."""
    for step in STEPS[version - 1 :]:
        step(connection)


__all__ = ["OLDEST_PROGRAM", "SCHEMA_VERSION", "STEPS", "migrate"]

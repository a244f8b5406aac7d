"""Schema 2: a job's row has the texts that the engine gets, so that another policy file does not change them."""

from __future__ import annotations

from sqlalchemy import Connection


def upgrade(connection: Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE jobs ADD COLUMN engine_texts JSON")

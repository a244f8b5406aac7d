"""Schema 2: job rows store the texts sent to the engine, so that a change of the policy file does not change them."""

from __future__ import annotations

from sqlalchemy import Connection


def upgrade(connection: Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE jobs ADD COLUMN engine_texts JSON")

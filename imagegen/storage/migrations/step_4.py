"""Schema 4: job rows store the requested previews, and whether the job is a draft."""

from __future__ import annotations

from sqlalchemy import Connection


def upgrade(connection: Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE jobs ADD COLUMN preview JSON")
    connection.exec_driver_sql("ALTER TABLE jobs ADD COLUMN draft BOOLEAN DEFAULT '0' NOT NULL")

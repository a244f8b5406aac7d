"""Schema 4: a job's row has the previews that its caller wants, and whether it is a draft."""

from __future__ import annotations

from sqlalchemy import Connection


def upgrade(connection: Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE jobs ADD COLUMN preview JSON")
    connection.exec_driver_sql("ALTER TABLE jobs ADD COLUMN draft BOOLEAN DEFAULT '0' NOT NULL")

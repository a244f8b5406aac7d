"""Schema 3: a picture's row has the warnings of its upload, so that an edit that names it can repeat them."""

from __future__ import annotations

from sqlalchemy import Connection


def upgrade(connection: Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE images ADD COLUMN warnings JSON")

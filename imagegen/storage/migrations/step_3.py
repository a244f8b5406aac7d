"""Schema 3: picture rows store the warnings of the upload, so that an edit of the picture can repeat them."""

from __future__ import annotations

from sqlalchemy import Connection


def upgrade(connection: Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE images ADD COLUMN warnings JSON")

"""Schema 7: picture rows have a number, by which lists are paged, and can be kept, on a board and with a note.

SQLite cannot add a primary key to a table, so the table is made anew. Rows get their numbers in order of creation.
"""

from __future__ import annotations

from sqlalchemy import Connection

COLUMNS = (
    "id, job_id, idx, width, height, bytes, sha256, seed, format, warnings, created_at, expires_at, expired_at"  # of 6
)


def upgrade(connection: Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE images RENAME TO images_6")
    for index in ("images_job", "images_expiry", "images_created"):
        connection.exec_driver_sql(f"DROP INDEX {index}")
    connection.exec_driver_sql(
        "CREATE TABLE images (seq INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, id VARCHAR(32) NOT NULL UNIQUE, "
        "job_id VARCHAR(32), idx INTEGER NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL, "
        "bytes INTEGER NOT NULL, sha256 VARCHAR(64) NOT NULL, seed INTEGER, format VARCHAR(8) NOT NULL, "
        "warnings JSON, created_at FLOAT NOT NULL, expires_at FLOAT, expired_at FLOAT, "
        "kept_at FLOAT, board VARCHAR(60), note TEXT)"
    )
    connection.exec_driver_sql(
        f"INSERT INTO images ({COLUMNS}) SELECT {COLUMNS} FROM images_6 ORDER BY created_at, idx"  # noqa: S608
    )
    connection.exec_driver_sql("DROP TABLE images_6")
    connection.exec_driver_sql("CREATE INDEX images_job ON images (job_id)")
    connection.exec_driver_sql("CREATE INDEX images_expiry ON images (expires_at)")
    connection.exec_driver_sql("CREATE INDEX images_kept ON images (kept_at)")

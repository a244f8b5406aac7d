"""Full-text search of pictures by their prompt and note, with SQLite's FTS5. All SQL for full text is here.

The index has a row for each picture that has not expired, under the picture's `seq`. Triggers write it in the
transaction that changes the picture, so the two never differ.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, text

from imagegen.storage.tables import images

MAX_QUERY_CHARS = 200

_CREATE = (
    "CREATE VIRTUAL TABLE image_search USING fts5(prompt, note, tokenize = 'unicode61 remove_diacritics 2')",
    "INSERT INTO image_search (rowid, prompt, note) SELECT images.seq, jobs.prompt, images.note FROM images "
    "LEFT JOIN jobs ON jobs.id = images.job_id WHERE images.expired_at IS NULL",
    "CREATE TRIGGER image_search_insert AFTER INSERT ON images BEGIN "
    "INSERT INTO image_search (rowid, prompt, note) "
    "VALUES (new.seq, (SELECT prompt FROM jobs WHERE id = new.job_id), new.note); END",
    "CREATE TRIGGER image_search_note AFTER UPDATE OF note ON images BEGIN "
    "UPDATE image_search SET note = new.note WHERE rowid = new.seq; END",
    "CREATE TRIGGER image_search_expire AFTER UPDATE OF expired_at ON images WHEN new.expired_at IS NOT NULL BEGIN "
    "DELETE FROM image_search WHERE rowid = old.seq; END",
    "CREATE TRIGGER image_search_delete AFTER DELETE ON images BEGIN "
    "DELETE FROM image_search WHERE rowid = old.seq; END",
)


def create(connection: Connection) -> None:
    """Create the index and fill it from the tables, unless it exists."""
    there = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'image_search'"
    if connection.exec_driver_sql(there).first() is None:
        for statement in _CREATE:
            connection.exec_driver_sql(statement)


def matches(words: str) -> ColumnElement[bool]:
    """The condition that a picture's prompt or note has every word of `words`, or a word that begins with it."""
    found = text("SELECT rowid FROM image_search WHERE image_search MATCH :words").bindparams(words=_expression(words))
    return images.c.seq.in_(found)


def _expression(words: str) -> str:
    """`words` as an FTS5 expression in which everything is quoted, so that no text is a syntax error.

    A word without a letter or digit has no token, and FTS5 would match nothing by it.
    """
    kept = [word for word in words.split() if any(one.isalnum() for one in word)]
    return " ".join('"' + word.replace('"', '""').replace("\0", "") + '"*' for word in kept) or '""'

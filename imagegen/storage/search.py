"""Full-text search of pictures by their prompt and note: SQLite's FTS5, or Postgres's. All SQL for full text is here.

The index has a row for each picture that has not expired, under the picture's `seq`. Triggers write it in the
transaction that changes the picture, so the two never differ.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from sqlalchemy import Boolean, ColumnElement, Connection, column, func, select, table, text
from sqlalchemy.ext.compiler import compiles

from imagegen.storage.tables import images

MAX_QUERY_CHARS = 200

_SQLITE = (
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
_MARKS, _SEPARATORS = r"[\u0300-\u036f]", r"[!-/:-@\[-`{-~\u2000-\u206f\u3000-\u303f]"
"""Regular expressions of Python and of Postgres: diacritics after NFKD, and what separates words besides spaces."""
_POSTGRES = (
    "CREATE TABLE image_search (seq BIGINT PRIMARY KEY, words TSVECTOR NOT NULL)",
    "CREATE INDEX image_search_words ON image_search USING gin (words)",
    "CREATE FUNCTION image_search_of(prompt TEXT, note TEXT) RETURNS TSVECTOR LANGUAGE sql IMMUTABLE AS $$ "
    "SELECT to_tsvector('simple', regexp_replace(regexp_replace("
    "lower(normalize(coalesce(prompt, '') || ' ' || coalesce(note, ''), NFKD)), "
    f"'{_MARKS}', '', 'g'), '{_SEPARATORS}', ' ', 'g')) $$",
    "CREATE FUNCTION image_search_follow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
    "DELETE FROM image_search WHERE seq = OLD.seq; "
    "IF TG_OP <> 'DELETE' AND NEW.expired_at IS NULL THEN INSERT INTO image_search VALUES "
    "(NEW.seq, image_search_of((SELECT prompt FROM jobs WHERE id = NEW.job_id), NEW.note)); END IF; "
    "RETURN NULL; END $$",
    "CREATE TRIGGER image_search_follow AFTER INSERT OR DELETE OR UPDATE OF note, expired_at ON images "
    "FOR EACH ROW EXECUTE FUNCTION image_search_follow()",
    "INSERT INTO image_search SELECT images.seq, image_search_of(jobs.prompt, images.note) FROM images "
    "LEFT JOIN jobs ON jobs.id = images.job_id WHERE images.expired_at IS NULL",
)


def create(connection: Connection) -> None:
    """Create the index and fill it from the tables, unless it exists."""
    on_sqlite = connection.dialect.name == "sqlite"
    there = (
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name = 'image_search'"
        if on_sqlite
        else "SELECT to_regclass('image_search')"
    )
    if connection.exec_driver_sql(there).scalar() is None:
        for statement in _SQLITE if on_sqlite else _POSTGRES:
            connection.exec_driver_sql(statement)


def matches(words: str) -> ColumnElement[bool]:
    """The condition that a picture's prompt or note has every word of `words`, or a word that begins with it."""
    return _Matches(words)


class _Matches(ColumnElement[bool]):
    """The condition, in the words of the database that it is compiled for."""

    inherit_cache = False
    type = Boolean()

    def __init__(self, words: str) -> None:
        in_fts5 = text("SELECT rowid FROM image_search WHERE image_search MATCH :words")
        self.on_sqlite = images.c.seq.in_(in_fts5.bindparams(words=_fts5(words)))
        index: Any = table("image_search", column("seq"), column("words"))
        query = func.to_tsquery("simple", _tsquery(words))
        self.on_postgres = images.c.seq.in_(select(index.c.seq).where(index.c.words.op("@@")(query)))


@compiles(_Matches, "sqlite")
def _for_sqlite(element: _Matches, compiler: Any, **options: Any) -> str:
    return str(compiler.process(element.on_sqlite, **options))


@compiles(_Matches, "postgresql")
def _for_postgres(element: _Matches, compiler: Any, **options: Any) -> str:
    return str(compiler.process(element.on_postgres, **options))


def _fts5(words: str) -> str:
    """`words` as an FTS5 expression in which everything is quoted, so that no text is a syntax error."""
    return " ".join('"' + word.replace('"', '""').replace("\0", "") + '"*' for word in _kept(words)) or '""'


def _tsquery(words: str) -> str:
    """`words` as a tsquery; its words are written as in the index, so that no character has a meaning in it."""
    found = []
    for word in _kept(words):
        plain = re.sub(_MARKS + "|\0", "", unicodedata.normalize("NFKD", word).lower())
        *first, last = re.sub(_SEPARATORS, " ", plain).split() or [""]
        if last:
            found.append(" <-> ".join([*(f"'{part}'" for part in first), f"'{last}':*"]))
    return " & ".join(found)


def _kept(words: str) -> list[str]:
    """The words that have a letter or digit: by another one, nothing would be found."""
    return [word for word in words.split() if any(one.isalnum() for one in word)]

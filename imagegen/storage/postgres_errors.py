"""Errors of Postgres as sentences. SQLSTATE distinguishes them, so that this module needs no driver."""

from __future__ import annotations

import re

from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

from imagegen.storage.errors import DatabaseUnavailable, StateError, StorageError, StorageFull

VARIABLE = "IMAGEGEN_DATABASE_URL"
_AWAY = ("08", "57P", "53300", "25006")
"""Beginnings of SQLSTATEs that pass: connection lost, shutdown or start, too many connections, a standby."""
_FULL = ("53100",)
_NO_RIGHTS = ("42501",)
_LOCKED = ("55P03",)


class TakenOver(Exception):
    """The original error of every write after another service has taken the database."""


def is_postgres(failure: BaseException) -> bool:
    """Whether Postgres, or the connection to it, caused `failure`."""
    orig = getattr(failure, "orig", None)
    return hasattr(orig, "sqlstate") or isinstance(orig, TakenOver)


def is_unavailable(failure: BaseException) -> bool:
    """Whether the server cannot be reached now, so that the same work may succeed later. Never true for SQLite."""
    if isinstance(failure, DatabaseUnavailable):
        return True
    if not isinstance(failure, DBAPIError) or not hasattr(failure.orig, "sqlstate"):
        return False
    state = getattr(failure.orig, "sqlstate", None)
    if state is None:  # no answer of the server: it was not reached, or the connection broke
        return failure.connection_invalidated or isinstance(failure, OperationalError)
    return str(state).startswith(_AWAY)


def server_failure(failure: Exception) -> StorageError:
    """The StorageError for an error of Postgres while the service runs."""
    orig = getattr(failure, "orig", None)
    if isinstance(orig, TakenOver):
        return StorageError(str(orig))
    if is_unavailable(failure):
        return DatabaseUnavailable("The database server cannot be reached now. Try again in some seconds.")
    state = str(getattr(orig, "sqlstate", None))
    if state.startswith(_FULL):
        return StorageFull("The disk of the database server is full: free some space, then try again.")
    if state.startswith(_NO_RIGHTS):
        return StorageError("The service's database user lacks a right that it had at the start: grant it again.")
    return StorageError(f"The service's database cannot be used (SQLSTATE {state}): look at the server's log.")


def missing_driver(missing: ModuleNotFoundError) -> StateError:
    """The StateError for a missing Python package."""
    return StateError(f"{VARIABLE} needs the Python package {missing.name}: pip install 'imagegen[fleet]'")


def start_failure(where: str, failure: SQLAlchemyError) -> StateError:
    """Why the database `where` (HOST:PORT/NAME) cannot be opened, and what to do."""
    orig = getattr(failure, "orig", None) or failure
    state, words = str(getattr(orig, "sqlstate", None)), _one_line(str(orig))
    if state.startswith(_NO_RIGHTS):
        do = "Make its user the owner of the database, or grant it CREATE on the schema."
        return StateError(f"The database {where} cannot be used: {words}. {do}")
    if state.startswith(_FULL):
        return StateError(f"The disk of the database {where} is full. Free some space and start again.")
    if state.startswith(_LOCKED):
        return StateError(f"The tables of the database {where} are locked by another session. Start again later.")
    if state.startswith("25006"):
        return StateError(f"The database {where} is read-only, perhaps a standby. Name the primary server.")
    if "does not exist" in words and "database" in words:
        return StateError(f"The database {where} does not exist. Create it (createdb), or correct {VARIABLE}.")
    if "authentication failed" in words or "role" in words or "no password supplied" in words or "pg_hba" in words:
        return StateError(f"The database server of {where} refused the login: {words}. Correct {VARIABLE}.")
    if is_unavailable(failure):
        do = f"Start the server, or correct {VARIABLE}."
        return StateError(f"The database {where} cannot be reached: {words}. {do}")
    return StateError(f"The database {where} cannot be used: {words}. Correct {VARIABLE}, or see the server's log.")


def _one_line(words: str) -> str:
    """The driver's message in one line: without its advice, its statement, and the attempts at other addresses."""
    found = re.search(r"FATAL:\s*(.+)", words)
    line = found[1] if found else words.strip().splitlines()[0]
    return line.strip().removeprefix("connection failed: ").rstrip(".")

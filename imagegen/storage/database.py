"""The database: what every implementation offers, and which one the settings name.

Without IMAGEGEN_DATABASE_URL it is the SQLite file of the state folder (`sqlite.py`), else Postgres (`postgres.py`).
The statements of the other packages are the same for both.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import os
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import IO, Any, Protocol

from sqlalchemy import Row, Select
from sqlalchemy.ext.asyncio import AsyncConnection

from imagegen.storage import permissions
from imagegen.storage.database_files import MAIN_GONE, PART_GONE
from imagegen.storage.errors import StateError, StateInUse, StorageError, StorageFull
from imagegen.storage.postgres_errors import is_postgres, server_failure
from imagegen.storage.sqlite import open_sqlite

log = logging.getLogger("imagegen.database")

CLAIM_WAIT_S = 3.0
"""How long to wait for a lock: a killed service may take a moment to exit."""


class Database(Protocol):
    """An open database. One process writes to it, one transaction at a time."""

    identity: str
    """Names the database, so that pictures on the disk are not compared with the rows of another one."""
    lost: asyncio.Event
    """Set when another service has taken the database. Every later write fails."""

    def reading(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A connection for reads."""

    async def fetch(self, statement: Select[Any], **values: Any) -> Sequence[Row[Any]]:
        """All rows of one query, for queries that run hundreds of times a second."""

    def writing(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A transaction, committed at the end of the block, or rolled back if the block raises or is cancelled."""

    async def close(self) -> None: ...


async def open_database(path: Path, url: str | None = None) -> Database:
    """Open or create the database: the SQLite file `path`, or the Postgres database of `url`.

    Raises StateError if it is unusable, damaged, written by a newer version, or used by another service.
    """
    if url is None:
        return await open_sqlite(path)
    from imagegen.storage.postgres import open_postgres  # a single host on SQLite does not import it

    return await open_postgres(url, CLAIM_WAIT_S)


def lock_state_folder(home: Path, wait_s: float = CLAIM_WAIT_S) -> IO[bytes]:
    """Create the state folder, restrict it to this user, and lock it. The lock holds while the returned file is open.

    Raises StateError if the folder cannot be created or written, StateInUse if another service holds the lock for
    more than `wait_s` seconds.
    """
    try:
        permissions.make_folder(home)
        still_open = permissions.restrict(home)
        lock = os.fdopen(permissions.open_private(home / "lock", os.O_WRONLY | os.O_APPEND), "ab")
    except OSError as failure:
        raise StateError(
            f"The state folder {home} cannot be used: {os.strerror(failure.errno or errno.EIO)}. "
            "Make it writable for this user, or name another one with IMAGEGEN_HOME."
        ) from None
    deadline = time.monotonic() + wait_s
    while not _locked(lock):
        if time.monotonic() < deadline:
            time.sleep(0.05)
            continue
        lock.close()
        raise StateInUse(
            f"Another service is using the state folder {home}. Stop it first, or give this one "
            "a folder of its own with IMAGEGEN_HOME."
        )
    if still_open:
        log.warning(
            "others can use %d files or folders of the state folder, and this user cannot change that: "
            "make them its own and set the folder to mode 0700",
            len(still_open),
        )
    return lock


def storage_failure(failure: Exception) -> StorageError:
    """The StorageError for `failure`: StorageFull if the disk is full, DatabaseUnavailable if no server answers.

    Its message contains no path and no address of the host.

    failure: sqlalchemy's DBAPIError, or a StorageError, which is returned unchanged.
    """
    if isinstance(failure, StorageError):
        return failure
    if is_postgres(failure):
        return server_failure(failure)
    reason = str(getattr(failure, "orig", None) or failure)
    if "full" in reason:
        return StorageFull("The disk with the state folder is full: free some space, then try again.")
    if reason == MAIN_GONE:
        return StorageError("The service's database was removed or replaced: restart the service to have it anew.")
    if reason == PART_GONE:
        return StorageError("The -wal or -shm file of the database was removed or replaced: restart the service.")
    if "readonly" in reason or "unable to open" in reason:
        return StorageError(f"The state folder cannot be written ({reason}): make it writable for the service's user.")
    if "malformed" in reason or "not a database" in reason:
        return StorageError(f"The service's database is damaged ({reason}): restart the service, and it says more.")
    return StorageError(f"The service's database cannot be used ({reason}): look at the system's log.")


def _locked(lock: IO[bytes]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True

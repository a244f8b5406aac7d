"""The files of the open database: the main file, its write-ahead log (-wal) and the log's index (-shm)."""

from __future__ import annotations

import logging
import os
import sqlite3
from pathlib import Path

from imagegen.storage import permissions

log = logging.getLogger("imagegen.database")

MAIN_GONE = "the file was removed or replaced"
PART_GONE = "a file beside the database was removed or replaced"


def parts(path: Path) -> tuple[Path, Path, Path]:
    """The main file first, then -wal and -shm, which SQLite puts beside the file that a symbolic link leads to."""
    real = path.resolve()
    return path, real.with_name(f"{real.name}-wal"), real.with_name(f"{real.name}-shm")


def make_private(path: Path) -> None:
    """Make the main file with mode 0600, and take others' rights from files that exist. Raises OSError.

    SQLite gives -wal and -shm the mode of the main file.
    """
    os.close(permissions.open_private(path, os.O_RDWR))
    for part in parts(path):
        if permissions.others_may(part):
            part.chmod(part.stat().st_mode & 0o700)


class DatabaseFiles:
    """Knows each file by its inode, so that a removed or replaced one is noticed.

    SQLite goes on to use a removed file as long as it is open: what it writes there is lost when it closes it. Holds a
    connection of its own, because SQLite removes -wal and -shm when the last one closes.
    """

    def __init__(self, path: Path) -> None:
        """`path` is a database in WAL mode. Raises sqlite3.Error, OSError."""
        self._connection = sqlite3.connect(path, timeout=10.0, isolation_level=None)
        self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # opens -wal and -shm
        self._known = {part: _identity(part) for part in parts(path)}
        self._path, self._saved = path, False  # saved: the open log is in the main file

    def fault(self) -> str | None:
        """MAIN_GONE or PART_GONE; None while all files are there.

        With PART_GONE, what was committed is first copied into the main file, so that it outlives this process.
        """
        lost = [part for part, identity in self._known.items() if _identity(part) != identity]
        if not lost:
            self._saved = False
            return None
        if self._path in lost:
            return MAIN_GONE
        if not self._saved:
            self._saved = self._checkpoint()
        return PART_GONE

    def written(self) -> None:
        """A transaction was committed: if a file was lost meanwhile, it is copied into the main file too."""
        self._saved = False

    def close(self) -> None:
        self._connection.close()

    def _checkpoint(self) -> bool:
        """Copy the open -wal into the main file; False if a reader or the disk was in the way."""
        try:
            busy, pages, copied = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error as refused:
            log.error("the database lost a file, and its log cannot be copied into the main file: %s", refused)
            return False
        if busy or pages != copied:
            return False
        log.error("the database lost a file; everything committed before is in the main file")
        return True


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino

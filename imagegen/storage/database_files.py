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
    """The main file, -wal and -shm. SQLite puts the latter two beside the target of a symbolic link."""
    real = path.resolve()
    return path, real.with_name(f"{real.name}-wal"), real.with_name(f"{real.name}-shm")


def make_private(path: Path) -> None:
    """Create the main file with mode 0600; remove the rights of group and others from existing files.

    SQLite gives -wal and -shm the mode of the main file. Raises OSError.
    """
    os.close(permissions.open_private(path, os.O_RDWR))
    for part in parts(path):
        if permissions.others_may(part):
            part.chmod(part.stat().st_mode & 0o700)


class DatabaseFiles:
    """Detects by inode whether a database file was removed or replaced.

    SQLite continues to use a removed file while it is open, and the data is lost on close. This class holds a
    connection of its own, because SQLite removes -wal and -shm when the last connection closes.
    """

    def __init__(self, path: Path) -> None:
        """`path`: a database in WAL mode. Raises sqlite3.Error, OSError."""
        self._connection = sqlite3.connect(path, timeout=10.0, isolation_level=None)
        self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # opens -wal and -shm
        self._known = {part: _identity(part) for part in parts(path)}
        self._path, self._saved = path, False  # saved: the main file contains the open log

    def fault(self) -> str | None:
        """MAIN_GONE or PART_GONE; None if all files are unchanged.

        On PART_GONE, committed data is first copied into the main file, so that it outlives this process.
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
        """Note a commit. If -wal or -shm is lost, the next `fault` copies the commit into the main file too."""
        self._saved = False

    def close(self) -> None:
        self._connection.close()

    def _checkpoint(self) -> bool:
        """Copy the open -wal into the main file; False if a reader or a disk error prevented that."""
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

"""Permissions of the state folder: only the user who runs the service may read prompts, pictures, tokens and keys."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

UMASK = 0o077
"""The umask of the service and its engine: only their user may use the files they create."""

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_KEPT_HERE = (
    "before-deploy",
    "engine",
    "images",
    "lock",
    "models",
    "provenance",
    "session.key",
    "templates",
    "tls",
    "tokens",
)
_DATABASE = "jobs.sqlite3"  # and its -wal and -shm, and copies of all three


def make_folder(folder: Path) -> None:
    """Create the folder and its missing parents with mode 0700, regardless of the umask. Raises OSError.

    An existing folder keeps its mode; see `restrict`.
    """
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir(mode=0o700, exist_ok=True)
        one.chmod(0o700)
    folder.mkdir(exist_ok=True)  # raises FileExistsError for a file


def open_private(path: Path, flags: int) -> int:
    """Open the file and return its descriptor. A new or empty file gets mode 0600, regardless of the umask.

    Raises OSError.
    """
    descriptor = os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
        if os.fstat(descriptor).st_size == 0 and mode != 0o600:
            os.fchmod(descriptor, 0o600)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def restrict(home: Path) -> list[Path]:
    """Set the state folder to mode 0700, and remove the rights of group and others from the service's files in it.

    Other files keep their mode, because the folder may be a home folder. Symbolic links are not followed. A folder
    with the sticky bit (/tmp) is shared on purpose and keeps its mode. Returns the paths that others may still use.
    """
    open_to_others = []
    mode = stat.S_IMODE(home.stat().st_mode)
    if mode & stat.S_ISVTX or (mode != 0o700 and not _chmod(home, 0o700)):
        open_to_others.append(home)
    for path in _kept(home):
        try:
            found = path.lstat()
        except OSError:  # removed since it was listed
            continue
        if found.st_mode & _OTHERS and not stat.S_ISLNK(found.st_mode):
            allowed = stat.S_IMODE(found.st_mode) & ~_OTHERS
            if not _chmod(path, allowed):
                open_to_others.append(path)
    return open_to_others


def others_may(path: Path) -> bool:
    """Whether the mode grants any right to group or others; False for a missing path."""
    try:
        return bool(path.stat().st_mode & _OTHERS)
    except OSError:
        return False


def _kept(home: Path) -> Iterator[Path]:
    for entry in home.iterdir():
        if entry.name in _KEPT_HERE or entry.name.startswith((_DATABASE, ".session.key.")):
            yield entry
            if entry.is_dir() and not entry.is_symlink():
                for folder, folders, files in os.walk(entry):
                    yield from (Path(folder, name) for name in (*folders, *files))


def _chmod(path: Path, mode: int) -> bool:
    try:
        path.chmod(mode)
    except OSError:  # owned by another user, or a file system without modes
        return False
    return True

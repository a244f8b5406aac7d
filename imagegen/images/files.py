"""The folder of pictures: PNG files named by id, written atomically.

A file gets its name only after all its bytes are on the disk. A crash or a full disk leaves a temporary file, which
`orphans` removes, and never a partial picture. This module uses no SQL: the database decides which pictures exist.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from imagegen.images.folder_note import note_database
from imagegen.storage import permissions
from imagegen.storage.errors import CorruptImage, StorageError, StorageFull

_ID = re.compile(r"[0-9a-f]{32}")
_PNG = re.compile(r"([0-9a-f]{32})\.png")
CONVERTED = ".converted"
_CONVERTED = re.compile(r"([0-9a-f]{32})\.converted")
_TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.[0-9a-f]{8}\.tmp")  # as `write` names them


_FULL = {
    errno.ENOSPC: "The disk with the picture folder is full: free some space, or shorten IMAGEGEN_IMAGE_TTL.",
    errno.EDQUOT: "The disk quota of the picture folder is used up: free some space, or raise the quota.",
    errno.EFBIG: "The picture is larger than this process may write (ulimit -f): raise the limit.",
}
_READ_ONLY = "The picture folder is on a read-only file system: mount it writable, or move IMAGEGEN_HOME."
_NOT_OURS = "The service may not use the picture folder: give its user the rights to IMAGEGEN_HOME."
_OTHER = {
    errno.EROFS: _READ_ONLY,
    errno.EACCES: _NOT_OURS,
    errno.EPERM: _NOT_OURS,
    errno.EIO: "The disk with the picture folder reports an input/output error: look at the system's log.",
    errno.ENOENT: "The picture folder was removed. Restart the service to create it again.",
}


def new_id() -> str:
    """A picture's id: 32 lowercase hexadecimal digits, 128 random bits."""
    return secrets.token_hex(16)


class ImageFiles:
    """PNG files in one flat folder. Every method is thread-safe and does disk I/O.

    A method that takes an id raises ValueError for anything but 32 lowercase hexadecimal digits, so that no
    request can name a file outside the folder. Every method raises StorageFull or StorageError on a disk error; the
    OSError is its cause.
    """

    def __init__(self, folder: Path) -> None:
        """Create the folder, readable by this user alone, if it is missing."""
        self._folder = folder
        with _storage_errors():
            permissions.make_folder(folder)

    def path(self, image_id: str) -> Path:
        """The path of a picture, whether it exists or not."""
        if not _ID.fullmatch(image_id):
            raise ValueError("an image id is 32 lowercase hexadecimal digits")
        return self._folder / f"{image_id}.png"

    def converted(self, image_id: str) -> Path:
        """The folder of a picture's conversions, which can be made again. It goes with the picture."""
        return self.path(image_id).with_suffix(CONVERTED)

    def write(self, image_id: str, png: bytes) -> None:
        """Store a picture durably: it survives a power cut. Replaces a picture of the same id atomically."""
        target = self.path(image_id)
        temporary = self._folder / f".{image_id}.{secrets.token_hex(4)}.tmp"
        with _storage_errors():
            try:
                with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                    file.write(png)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(target)
            except BaseException:
                with contextlib.suppress(OSError):
                    temporary.unlink()
                raise
            self._sync_folder()

    def read(self, image_id: str) -> bytes:
        """Return the stored bytes. Raises FileNotFoundError for an unknown picture."""
        path = self.path(image_id)
        with _storage_errors(missing_too=False):
            return path.read_bytes()

    def verify(self, image_id: str, sha256: str) -> bytes:
        """Return the stored bytes if their SHA-256 (hex) is `sha256`. Raises CorruptImage, and what `read` raises."""
        png = self.read(image_id)
        if hashlib.sha256(png).hexdigest() != sha256:
            raise CorruptImage("The stored picture was damaged on the disk and cannot be served: draw it again.")
        return png

    def delete(self, image_id: str) -> bool:
        """Remove a picture. Returns False if there was none."""
        path = self.path(image_id)
        try:
            with _storage_errors(missing_too=False):
                shutil.rmtree(self.converted(image_id), ignore_errors=True)
                path.unlink()
        except FileNotFoundError:
            return False
        return True

    def rows_since(self, identity: str) -> float:
        """Since when the database `identity` has the rows of the pictures (POSIX seconds); noted if it is another."""
        with _storage_errors():
            return note_database(self._folder, identity).since

    def orphans(
        self,
        known: Collection[str],
        min_age_s: float = 0.0,
        now: Callable[[], float] = time.time,
        *,
        since: float = 0.0,
    ) -> int:
        """Remove pictures whose id is not in `known`, and temporary files. Returns how many were removed.

        min_age_s: younger files stay. Use 0 only at startup, before any write: later it would remove pictures whose row
        is not inserted yet. since: pictures from before this time stay (POSIX seconds). Other files stay.
        """
        removed = 0
        for entry in self._entries():
            picture, converted = _PNG.fullmatch(entry.name), _CONVERTED.fullmatch(entry.name)
            if converted and converted[1] not in known:
                shutil.rmtree(entry.path, ignore_errors=True)
            ours = picture[1] not in known if picture else _TEMPORARY.fullmatch(entry.name)
            if not ours:
                continue
            with _storage_errors(), contextlib.suppress(FileNotFoundError):  # already removed
                written = entry.stat(follow_symlinks=False).st_mtime
                if now() - written >= min_age_s and (written >= since or not picture):
                    Path(entry.path).unlink()
                    removed += 1
        return removed

    def bytes_stored(self) -> int:
        """Bytes of all pictures in the folder, without temporary files."""
        total = 0
        for entry in self._entries():
            if _PNG.fullmatch(entry.name):
                with _storage_errors(), contextlib.suppress(FileNotFoundError):  # removed since it was listed
                    total += entry.stat(follow_symlinks=False).st_size
        return total

    def _entries(self) -> Iterator[os.DirEntry[str]]:
        with _storage_errors(), os.scandir(self._folder) as entries:
            yield from entries

    def _sync_folder(self) -> None:
        """Make the rename itself durable."""
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextlib.contextmanager
def _storage_errors(*, missing_too: bool = True) -> Iterator[None]:
    """Convert an OSError to StorageFull or StorageError. missing_too: also FileNotFoundError."""
    try:
        yield
    except OSError as refused:
        number = refused.errno or 0
        if number == errno.ENOENT and not missing_too:
            raise
        if number in _FULL:
            raise StorageFull(_FULL[number]) from refused
        why = os.strerror(number)
        raise StorageError(_OTHER.get(number, f"The picture folder cannot be used: {why}.")) from refused

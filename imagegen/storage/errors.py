"""What can go wrong with the disk, for pictures and for the database."""

from __future__ import annotations


class StorageError(Exception):
    """The disk refused to store or read something. The message is a sentence without any path of the host."""

    code = "storage_error"


class StorageFull(StorageError):
    """There is no room on the disk."""

    code = "storage_full"


class CorruptImage(StorageError):
    """A stored file is no longer the picture that was stored."""

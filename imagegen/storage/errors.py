"""Storage errors of pictures and the database."""

from __future__ import annotations


class StorageError(Exception):
    """A read or write failed. The message is a sentence without paths of the host."""

    code = "storage_error"


class StorageFull(StorageError):
    """The disk is full."""

    code = "storage_full"


class CorruptImage(StorageError):
    """A stored file differs from the picture that was stored."""

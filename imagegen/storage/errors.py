"""Errors of pictures, the state folder and the database."""

from __future__ import annotations


class StorageError(Exception):
    """A read or write failed. The message is a sentence without paths of the host."""

    code = "storage_error"


class StorageFull(StorageError):
    """The disk is full."""

    code = "storage_full"


class DatabaseUnavailable(StorageError):
    """The database server cannot be reached now. The same request may succeed later."""

    code = "database_unavailable"


class CorruptImage(StorageError):
    """A stored file differs from the picture that was stored."""


class StateError(Exception):
    """The state folder or the database cannot be used. The message has the reason and the remedy."""


class StateInUse(StateError):
    """A running service holds the lock of the state folder or of the database."""

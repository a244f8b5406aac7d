"""Which database has the rows of a folder's pictures.

The service's start removes pictures without a row. After a change of database, the pictures of the earlier database
have no rows in the new one: the note records since when the rows are in this one, and older pictures stay.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from imagegen.storage import permissions

NAME = ".database"


@dataclass(frozen=True)
class FolderNote:
    """identity: of the database, as `Database.identity`. since: when it got the folder, in POSIX seconds."""

    identity: str = "sqlite"
    since: float = 0.0


def read_note(folder: Path) -> FolderNote:
    """The folder's note. Without one, the folder has the pictures of the state folder's SQLite file."""
    try:
        found = json.loads((folder / NAME).read_text())
        return FolderNote(str(found["identity"]), float(found["since"]))
    except FileNotFoundError:
        return FolderNote()
    except (ValueError, KeyError, TypeError):
        return FolderNote("unknown")


def note_database(folder: Path, identity: str, now: Callable[[], float] = time.time) -> FolderNote:
    """Note that `identity` has the rows of the folder's pictures from now on, unless it had them before.

    Raises OSError.
    """
    found = read_note(folder)
    if found.identity == identity:
        return found
    note = FolderNote(identity, now())
    temporary = folder / f"{NAME}.tmp"
    with os.fdopen(permissions.open_private(temporary, os.O_WRONLY | os.O_TRUNC), "w") as file:
        json.dump(asdict(note), file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / NAME)
    return note

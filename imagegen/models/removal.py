"""Removes a model's files. A file that another installed model uses, or that lies elsewhere, stays."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from imagegen.models.download.fetch import LOCK
from imagegen.models.download.record import RECORD, forget
from imagegen.models.synthetic.make import VERSION
from imagegen.models.weights import Weights
from imagegen.schemas import Refused
from imagegen.settings import Settings

NOTES = {RECORD, VERSION}
"""Files about the files of a folder."""


@dataclass(frozen=True)
class Held:
    """A file of the model. kept: why it stays, as the end of a sentence that begins with its path; None: it goes."""

    path: Path
    disk_bytes: int  # what it occupies
    kept: str | None = None


@dataclass(frozen=True)
class Removal:
    """What removing a model's files deletes and keeps."""

    model: str
    files: tuple[Held, ...]

    @property
    def removed(self) -> list[Held]:
        return [file for file in self.files if file.kept is None]

    @property
    def kept(self) -> list[Held]:
        return [file for file in self.files if file.kept is not None]

    @property
    def frees_bytes(self) -> int:
        return sum(file.disk_bytes for file in self.removed)


def plan(entry: Weights, others: Iterable[Weights], settings: Settings) -> Removal:
    """Look at the files of `entry`. others: the entries whose files stay if the model is installed."""
    users = [other for other in others if other.name != entry.name and other.installed(settings)]
    used = {path.resolve(): other.name for other in users for path in other.paths(settings)}
    found = {path.resolve(): path for path in [*entry.paths(settings), *_parts(entry, settings)]}
    top = settings.models_dir.resolve()

    def kept(real: Path) -> str | None:
        if (user := used.get(real)) is not None:
            return f"is used by {user}"
        return None if real.is_relative_to(top) else "lies outside the models folder"

    files = [Held(path, path.stat().st_blocks * 512, kept(real)) for real, path in sorted(found.items())]
    return Removal(entry.name, tuple(files))


def remove(removal: Removal, settings: Settings) -> int:
    """Delete the files and the folders that become empty. Returns the freed bytes.

    Raises Refused 409 `busy` while a download runs, OSError.
    """
    freed = 0
    with _no_download(settings):
        for file in removal.removed:
            file.path.unlink(missing_ok=True)
            forget(file.path)
            freed += file.disk_bytes
        for folder in sorted({file.path.parent for file in removal.removed}, key=lambda one: -len(one.parts)):
            _remove_empty(folder, settings.models_dir)
    return freed


def _parts(entry: Weights, settings: Settings) -> list[Path]:
    """The partial files of an interrupted download."""
    places = [entry.path_of(file, settings) for file in entry.files]
    return [part for place in places for part in sorted(place.parent.glob(f".{place.name}.*.part"))]


@contextlib.contextmanager
def _no_download(settings: Settings) -> Iterator[None]:
    """Hold the lock of downloads, so that none writes into a folder that is being emptied."""
    with (settings.models_dir / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            detail = "A model is being downloaded. Stop that download, or remove the files when it has ended."
            raise Refused(409, "busy", detail) from None
        yield


def _remove_empty(folder: Path, top: Path) -> None:
    """Remove `folder` and the folders above it, up to `top`, as far as they contain no file except notes."""
    while folder != top and folder.is_relative_to(top) and folder.is_dir():
        if {path.name for path in folder.iterdir()} <= NOTES:
            for note in NOTES:
                (folder / note).unlink(missing_ok=True)
        try:
            folder.rmdir()
        except OSError:  # not empty, or a link
            return
        folder = folder.parent

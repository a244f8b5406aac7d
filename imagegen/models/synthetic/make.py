"""Makes the models that need no download.

Most have the shapes of real models and seeded random weights. They draw noise, but tests can run the real engine on
them. One is trained: its weights are unpacked from the package.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from imagegen.engines.glm import server
from imagegen.models.catalog import Catalog
from imagegen.models.entry import Entry
from imagegen.models.entry_files import CatalogError
from imagegen.models.packages import lacking_sentence
from imagegen.models.synthetic import esrgan, klein, qwen
from imagegen.models.synthetic.packed import Pack, Stated
from imagegen.models.vocabulary import Things
from imagegen.models.weights import Weights
from imagegen.settings import Settings
from imagegen.storage import permissions

Progress = Callable[[int, int], None]
"""Called with the bytes written and the total."""


class Written(Protocol):
    """A file to write. `write` reports its progress, `written_bytes` in all, and raises OSError."""

    @property
    def written_bytes(self) -> int: ...

    def write(self, path: Path, on_bytes: Callable[[int], None]) -> None: ...


PACKS = {"sketch": Pack("sketch")}
"""Trained weights in the package, by the entry's `made_by`."""

MADE: dict[str, Callable[[], Mapping[str, Written]]] = {
    "klein": klein.files,
    "qwen": qwen.files,
    "esrgan": esrgan.files,
    **{name: pack.files for name, pack in PACKS.items()},
}
"""By the entry's `made_by`: a function that returns the files by name."""

EXTRAS: dict[str, Callable[[], Mapping[str, Written]]] = {
    "qwen": qwen.vision_files,
}
"""The same for optional files: vision towers."""


VERSION = ".version"
"""File with the version of the unpacked weights. It is renamed last, so it never names an incomplete set."""


def _silent(_done: int, _total: int) -> None:
    """Report no progress."""


def make(name: str, settings: Settings, on_progress: Progress = _silent, vision: bool = False) -> Path:
    """Write the files of the catalog's entry `name` and replace existing ones. Returns their folder.

    vision: also write the optional vision tower. All files appear together or not at all. Concurrent calls wait
    for each other.
    Raises Refused(422, unknown_model), CatalogError if no script makes that model or its tower, OSError.
    """
    entry = Catalog.load(settings).weights(name)
    if entry.made_by is None:
        raise CatalogError(f"{name} is not made by a script: see imagegen models show {name}")
    if isinstance(entry, Entry) and (needed := lacking_sentence(entry)) is not None:
        raise CatalogError(needed)
    if vision and entry.made_by not in EXTRAS:
        raise CatalogError(f"{name} has no vision tower: leave --vision out")
    write = _writer(entry.made_by, vision, on_progress)
    folder = entry.folder(settings)
    permissions.make_folder(folder.parent)
    with (folder.parent / f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left_over in folder.parent.glob(f".{folder.name}.making-*"):
            shutil.rmtree(left_over)  # from a killed process: a live one would hold the lock
        making = Path(tempfile.mkdtemp(prefix=f".{folder.name}.making-", dir=folder.parent))
        try:
            write(making)
            _check(entry, making)
            if entry.made_by in PACKS:
                (making / VERSION).write_text(PACKS[entry.made_by].version)
            _put(making, folder)
        finally:
            shutil.rmtree(making, ignore_errors=True)
    return folder


def to_make(entry: Weights, settings: Settings) -> bool:
    """Whether `entry` needs `make` before it is loaded: files are missing or older than the package's.

    Raises OSError.
    """
    if entry.made_by is None:
        return False
    if entry.missing(settings):
        return True
    pack, version = PACKS.get(entry.made_by), entry.folder(settings) / VERSION
    return pack is not None and not (version.exists() and version.read_text() == pack.version)


def stated(entry: Weights) -> dict[str, Stated]:
    """The expected size and hash of each file of a packed model. Empty for other models."""
    pack = PACKS.get(entry.made_by or "")
    return {} if pack is None else pack.stated


def things(entry: Entry) -> Things | None:
    """All things that a packed model can draw. None for other models. Raises OSError."""
    pack = PACKS.get(entry.made_by or "")
    known: Things | None = None if pack is None else pack.about["things"]
    return known


def _writer(made_by: str, vision: bool, on_progress: Progress) -> Callable[[Path], None]:
    """A function that writes the model's files into a folder."""
    if made_by == "glm":
        return lambda folder: _pipeline(folder, on_progress)
    files = {**MADE[made_by](), **(EXTRAS[made_by]() if vision else {})}
    return lambda folder: _write_all(files, folder, on_progress)


def _pipeline(folder: Path, on_progress: Progress) -> None:
    """Make the files in a subprocess, because the service never imports torch.

    Raises CatalogError with the last line of the subprocess's stderr.
    """
    on_progress(0, 1)
    ran = subprocess.run(
        [sys.executable, "-P", str(Path(server.__file__).with_name("__main__.py")), "make", str(folder)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    if ran.returncode != 0:
        words = ran.stderr.strip().splitlines()[-1:] or [f"exit status {ran.returncode}"]
        raise CatalogError(f"The model could not be made: {words[0].removeprefix('[ERROR] ')}")
    on_progress(1, 1)


def _write_all(files: Mapping[str, Written], folder: Path, on_progress: Progress) -> None:
    total = sum(gguf.written_bytes for gguf in files.values())
    done = 0

    def on_bytes(count: int) -> None:
        nonlocal done
        done += count
        on_progress(done, total)

    on_progress(0, total)
    for file, gguf in files.items():
        gguf.write(folder / file, on_bytes)


def _check(entry: Weights, folder: Path) -> None:
    lacking = [f.file for f in entry.files if not f.optional and not (folder / f.file).is_file()]
    if lacking:
        raise CatalogError(f"{entry.name}: files: made_by = {entry.made_by!r} does not make {', '.join(lacking)}")


def _put(making: Path, folder: Path) -> None:
    """Rename the whole folder if none exists yet. Otherwise rename file by file: an engine may have them open."""
    if not folder.exists():
        making.rename(folder)
        return
    # The version last: a partly updated folder counts as old.
    for path in sorted(making.rglob("*"), key=lambda path: (path.name == VERSION, path)):
        if path.is_dir():
            (folder / path.relative_to(making)).mkdir(exist_ok=True)
        else:
            path.replace(folder / path.relative_to(making))

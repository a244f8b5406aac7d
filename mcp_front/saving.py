"""Save full-resolution pictures on the user's disk: folder, file name, atomic write."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
import tempfile
import unicodedata
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from uuid import uuid4

from imagegen_client import places

MAX_SLUG_CHARS = 40


class NotSaved(Exception):
    """The picture could not be saved. The message is a sentence for a person."""


def file_name(prompt: str, image_id: str, drawn_at: str | None) -> str:
    """A readable, unique file name: local time of drawing, first words of the prompt, the id.

    The same picture always gets the same name, so that fetching a result twice writes one file.
    """
    try:
        moment = datetime.fromisoformat(drawn_at or "").astimezone()
    except ValueError:
        moment = datetime.now().astimezone()
    words = re.sub(r"\W+", "-", unicodedata.normalize("NFC", prompt).lower()).strip("-_")
    slug = words[:MAX_SLUG_CHARS].strip("-_") or "picture"
    return places.portable_name(f"{moment:%Y-%m-%d_%H-%M-%S}_{slug}_{image_id[-12:]}.png")


def save(content: bytes, name: str, chosen: Path | None) -> Path:
    """Write the picture into the chosen folder, by default into the first usable one of `usual_folders`. Blocks.

    Raises NotSaved, also if the chosen folder cannot be used: no other folder replaces it.
    """
    if chosen is not None:
        try:
            return _write(content, name, chosen)
        except OSError as failed:
            raise NotSaved(
                f"The picture was not saved: {_reason(failed, chosen)} Make the folder {chosen} writable, "
                "free some space, or choose another one with IMAGEGEN_OUTPUT_DIR."
            ) from None
    failures = []
    for folder in usual_folders():
        try:
            return _write(content, name, folder)
        except OSError as failed:
            failures.append(_reason(failed, folder))
    raise NotSaved(f"The picture was not saved: {' '.join(failures)} Choose a folder with IMAGEGEN_OUTPUT_DIR.")


def usual_folders() -> Iterator[Path]:
    """~/Pictures/imagegen, then /tmp (on Windows %TEMP%) of this machine."""
    home = None
    with contextlib.suppress(RuntimeError):  # no home folder is known
        home = str(Path.home())
    if sys.platform == "win32":
        folders = places.pictures_folders(sys.platform, home, tempfile.gettempdir(), None)
    else:
        folders = places.pictures_folders(sys.platform, home, "/tmp", os.getuid())  # noqa: S108 - _write checks its owner
    return map(Path, folders)


def _write(content: bytes, name: str, folder: Path) -> Path:
    """Write to a temporary file in the folder, then rename it: a reader never sees half a picture. Raises OSError."""
    shared = folder.parent == Path("/tmp")  # noqa: S108
    folder.mkdir(mode=0o700 if shared else 0o777, parents=True, exist_ok=True)
    if sys.platform != "win32" and shared and (folder.is_symlink() or folder.stat().st_uid != os.getuid()):
        raise PermissionError(errno.EPERM, "belongs to another user")
    target = _free_name(folder / name, content)
    if target.exists():
        return target
    part = folder / f".{uuid4().hex}.part"
    try:
        with part.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return target


def _free_name(wanted: Path, content: bytes) -> Path:
    """The wanted name if no file has it or the file has this content, else a numbered one: edited files are kept."""
    for number in range(1, 1000):
        path = wanted if number == 1 else wanted.with_stem(f"{wanted.stem}-{number}")
        if not path.exists() or (path.stat().st_size == len(content) and path.read_bytes() == content):
            return path
    raise FileExistsError(errno.EEXIST, "holds a thousand versions of this picture")


def _reason(failed: OSError, folder: Path) -> str:
    if failed.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return f"there is no space left for it in {folder}."
    if isinstance(failed, PermissionError) or failed.errno == errno.EROFS:
        return f"{folder} may not be written by this user."
    if isinstance(failed, FileExistsError | NotADirectoryError):
        return f"{folder} is not a folder."
    return f"{folder} cannot be used ({failed.strerror or failed})."

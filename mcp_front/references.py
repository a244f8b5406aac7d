"""Local picture files as references. A picture file is sent unchanged; no other file is sent.

Prompt injection can make an agent name any file. So opening a file never blocks, only a limited size is read, and
the file is sent only if it begins with a picture's signature: a text file named `.png` is not sent. The service
decodes the picture and keeps only its pixels.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread

from mcp_front.paths import BadReference, local_path

T = TypeVar("T")

_STARTS = (
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",  # JPEG
    b"GIF87a",
    b"GIF89a",
    b"II*\0",  # TIFF
    b"MM\0*",
    b"\xff\x0a",  # JPEG XL
    b"\0\0\0\x0cJXL \r\n\x87\n",
    b"\xff\x4f\xff\x51",  # JPEG 2000
    b"\0\0\0\x0cjP  \r\n\x87\n",
    b"8BPS\0\1",  # Photoshop
)
_HEIF_BRANDS = frozenset(b"heic heix heim heis hevc hevx hevm hevs mif1 mif2 msf1 miaf avif avis avci".split())

NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
"""The checked path has no symlinks. A symlink that has replaced the file since the check is not followed."""

MAX_FILE_BYTES = 64 * 1024 * 1024

READ_TIMEOUT_S = 30.0

_IMAGE_ID = re.compile(r"[A-Za-z0-9_-]{8,128}")
_IMAGE_URI = re.compile(r"(?:image://|.*/images/)([A-Za-z0-9_-]{8,128})(?:/full)?\.(?:png|jpg|webp)")


def image_id(reference: str, service_url: str) -> str | None:
    """The id in an image id, an image:// URI or a URL of the service. None for any other reference."""
    if _IMAGE_ID.fullmatch(reference):
        return reference
    if reference.startswith(("image://", f"{service_url}/images/")) and (found := _IMAGE_URI.fullmatch(reference)):
        return found[1]
    return None


async def locate(reference: str) -> Path:
    """The path of a referenced local file, symlinks resolved. Raises BadReference, also after 30 s."""
    return await _in_time(reference, lambda: _resolved(local_path(reference)))


async def load(path: Path) -> bytes:
    """The content of a local picture file. `path`: from `locate`. Raises BadReference, also after 30 s."""
    return await _in_time(str(path), lambda: _read_picture(path))


async def _in_time(name: str, work: Callable[[], T]) -> T:
    try:
        with anyio.fail_after(READ_TIMEOUT_S):
            return await anyio.to_thread.run_sync(work, abandon_on_cancel=True)
    except TimeoutError:
        late = f"{name[:200]!r} could not be read within {READ_TIMEOUT_S:g} s. Copy it to a local disk."
        raise BadReference(late) from None


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # a symlink loop: opening the file reports it
        return path


def _read_picture(path: Path) -> bytes:
    content = _read_bounded(path)
    if not is_picture(content):
        raise BadReference(
            f"{path} is not a picture file, so nothing of it was sent. Pass a PNG, JPEG, WebP, GIF or BMP file."
        )
    return content


def _read_bounded(path: Path) -> bytes:
    """Read a regular file of at most MAX_FILE_BYTES. Never waits for a pipe or opens a device. Raises BadReference."""
    try:
        _refuse_unless_regular(path, path.stat())
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | NO_FOLLOW)
        with open(handle, "rb") as file:  # noqa: PTH123 - a descriptor
            _refuse_unless_regular(path, os.fstat(handle))  # the file may have been replaced since the check
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as failed:
        raise BadReference(_why_unreadable(path, failed)) from None
    if len(content) > MAX_FILE_BYTES:
        raise BadReference(f"{path} is larger than {MAX_FILE_BYTES // 2**20} MiB. Pass a smaller copy.")
    return content


def _refuse_unless_regular(path: Path, found: os.stat_result) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise BadReference(f"{path} is a folder. Pass the path of one picture file.")
    if not stat.S_ISREG(found.st_mode):
        raise BadReference(f"{path} is not an ordinary file. Pass the path of a picture file.")
    if found.st_size == 0:  # includes the files of /proc, some of which block
        raise BadReference(f"{path} is empty. Pass the path of a picture file.")
    if found.st_size > MAX_FILE_BYTES:
        raise BadReference(
            f"{path} has {found.st_size / 2**20:.0f} MiB; at most {MAX_FILE_BYTES // 2**20} MiB are read. "
            "Pass a smaller copy."
        )


def _why_unreadable(path: Path, failed: OSError) -> str:
    if isinstance(failed, FileNotFoundError | NotADirectoryError):
        return f"There is no file {path}. Pass the full path of a picture file on this machine, or an image id."
    if isinstance(failed, PermissionError):
        return f"{path} may not be read by this user. Copy it to where it may be read."
    if failed.errno == errno.ELOOP:
        return f"{path} is a symbolic link that leads back to itself. Pass the path of the file itself."
    return f"{path} cannot be read: {os.strerror(failed.errno) if failed.errno else failed}."


def is_picture(content: bytes) -> bool:
    """Whether a file begins with the signature of a raster format. The service may still refuse to decode it."""
    if content.startswith(_STARTS) or (content[:4] == b"RIFF" and content[8:12] == b"WEBP"):
        return True
    if content[:2] == b"BM":  # two letters prove little: the header's size must be one of seven
        return content[14:18] in {size.to_bytes(4, "little") for size in (12, 40, 52, 56, 64, 108, 124)}
    if content[:4] in {b"\0\0\1\0", b"\0\0\2\0"}:  # an icon or a cursor, with its number of pictures
        return content[4:6] != b"\0\0" and content[9:10] == b"\0"
    return (content[4:8] == b"ftyp" and content[8:12] in _HEIF_BRANDS) or content.endswith(b"TRUEVISION-XFILE.\0")

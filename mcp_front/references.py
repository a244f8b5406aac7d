"""Local pictures as references: only decoded pixels ever leave this machine.

An agent can be talked into naming any file. So a file is opened without following it anywhere that
blocks, read up to a limit, decoded completely, and sent as a new PNG of its pixels: text that is
called `.png`, metadata, and bytes hidden behind a picture stay here.
"""

from __future__ import annotations

import errno
import io
import os
import re
import stat
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

import anyio
import anyio.to_thread
from PIL import Image, ImageOps

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
"""Raster formats whose decoders run no program (EPS would start Ghostscript)."""

MAX_FILE_BYTES = 64 * 1024 * 1024
MAX_DECODED_PX = 40_000_000
"""The service's own default limit (IMAGEGEN_MAX_DECODED_PX)."""
MAX_DECODED_SIDE_PX = 16_383
"""The service's own limit for a side, which is that of WebP."""

MAX_SIDE_PX = 2048
"""Larger references are reduced before sending: twice the longest side that the service draws by default,
and at most 16 MiB as RGBA, which stays under its limit for a request body."""

READ_TIMEOUT_S = 30.0

_IMAGE_ID = re.compile(r"[A-Za-z0-9_-]{8,128}")
_IMAGE_URI = re.compile(r"(?:image://|.*/images/)([A-Za-z0-9_-]{8,128})(?:/full)?\.(?:png|jpg|webp)")


class BadReference(Exception):
    """A reference that cannot be used; the message is a sentence for a person."""


def image_id(reference: str, service_url: str) -> str | None:
    """The id in an image id, an image:// link or a URL of the service's own; None for anything else."""
    if _IMAGE_ID.fullmatch(reference):
        return reference
    if reference.startswith(("image://", f"{service_url}/images/")) and (found := _IMAGE_URI.fullmatch(reference)):
        return found[1]
    return None


async def load_png(reference: str) -> bytes:
    """The pixels of a local picture file, as a PNG. Raises BadReference; gives up after 30 s."""
    path = _local_path(reference)
    try:
        with anyio.fail_after(READ_TIMEOUT_S):
            return await anyio.to_thread.run_sync(_read_and_encode, path, abandon_on_cancel=True)
    except TimeoutError:
        raise BadReference(f"{path} could not be read within {READ_TIMEOUT_S:g} s. Copy it to a local disk.") from None


def _local_path(reference: str) -> Path:
    if reference.startswith("data:"):
        raise BadReference("A data URL cannot be passed here. Save the picture to a file and pass its path.")
    scheme = urlsplit(reference).scheme.lower()
    if scheme == "file":
        return Path(url2pathname(unquote(urlsplit(reference).path)))
    if len(scheme) > 1:  # one letter is a Windows drive
        raise BadReference(
            f"{reference[:200]!r} is not a picture of this service, and other addresses are not fetched. "
            "Download the picture and pass the path of the file."
        )
    if "\0" in reference:
        raise BadReference("A path cannot contain a NUL character.")
    return Path(reference).expanduser().absolute()


def _read_and_encode(path: Path) -> bytes:
    return _pixels_as_png(_read_bounded(path), path)


def _read_bounded(path: Path) -> bytes:
    """Read a regular file of at most MAX_FILE_BYTES; never waits for a pipe or touches a device."""
    try:
        _refuse_unless_regular(path, path.stat())
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with open(handle, "rb") as file:  # noqa: PTH123 - a descriptor
            _refuse_unless_regular(path, os.fstat(handle))  # it may have been replaced since
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
    if found.st_size == 0:  # also every file of /proc, some of which would block
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


def _pixels_as_png(content: bytes, path: Path) -> bytes:
    """Decode completely, apply the camera's rotation, and encode anew without anything but pixels."""
    try:
        opened = Image.open(io.BytesIO(content), formats=FORMATS)
        if opened.width * opened.height > MAX_DECODED_PX:
            raise Image.DecompressionBombError
        if max(opened.size) > MAX_DECODED_SIDE_PX:
            raise BadReference(
                f"{path} has a side of {max(opened.size)} pixels; at most {MAX_DECODED_SIDE_PX} are taken. "
                "Pass a smaller copy."
            )
        picture = ImageOps.exif_transpose(opened)
        has_alpha = picture.mode in {"RGBA", "LA", "PA"} or "transparency" in picture.info
        picture = picture.convert("RGBA" if has_alpha else "RGB")
    except BadReference:
        raise
    except Image.DecompressionBombError:
        raise BadReference(
            f"{path} has more than the {MAX_DECODED_PX // 10**6} million pixels that are taken. Pass a smaller copy."
        ) from None
    except Exception:  # Pillow's decoders raise whatever a broken file makes them raise
        raise BadReference(
            f"{path} is not a picture that can be read, so nothing of it was sent. "
            f"Pass a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} file."
        ) from None
    picture.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX))
    picture.info.clear()
    encoded = io.BytesIO()
    picture.save(encoded, "PNG", compress_level=3)
    return encoded.getvalue()

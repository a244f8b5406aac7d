"""A finished picture, and the pictures that a request takes."""

from __future__ import annotations

import io
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from PIL import Image

from imagegen_client import spelling
from imagegen_client.answers import ImageInfo, JobState, Said
from imagegen_client.errors import BadImage

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
"""The suffixes that `save` writes. A name without a suffix gets .png."""
QUALITY = 90
ID = re.compile(r"[0-9a-f]{32}")
ADDRESS = re.compile(r"https?://[^?#]*/images/([0-9a-f]{32})\.(?:png|jpe?g|webp)(?:\?.*)?")


Data: TypeAlias = bytes  # within the classes below `bytes` is a property


class Picture:
    """A picture of the service. The bytes are fetched when they are first needed."""

    def __init__(
        self,
        info: ImageInfo,
        job: JobState | None = None,
        *,
        data: bytes | None = None,
        fetch: Callable[[str], bytes] | None = None,
    ) -> None:
        self.info, self.job = info, job
        self._data, self._fetch = data, fetch

    @property
    def id(self) -> str:
        return self.info.id

    @property
    def url(self) -> str:
        """The address of the PNG. It works without a token until the picture expires."""
        return self.info.url

    @property
    def seed(self) -> int | None:
        """The seed of this picture; None for an upload."""
        return self.info.seed

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.info.width, self.info.height

    @property
    def prompt(self) -> str | None:
        return self.job.prompt if self.job else self.info.prompt

    @property
    def model(self) -> str | None:
        return self.job.model if self.job else self.info.model

    @property
    def params(self) -> dict[str, Any]:
        """The parameters of the engine, all resolved; `seed` is that of this picture. Empty if the job is not known."""
        if self.job is None:
            return {}
        return self.job.params if self.seed is None else self.job.params | {"seed": self.seed}

    @property
    def warnings(self) -> list[Said]:
        return self.job.warnings if self.job else self.info.warnings

    @property
    def bytes(self) -> bytes:
        """The PNG file. Raises ServiceError; RuntimeError for a picture of AsyncClient that was not read."""
        if self._data is None:
            if self._fetch is None:
                raise RuntimeError("The picture's bytes are not here. Read them: `await client.read(picture)`.")
            self._data = self._fetch(self.id)
        return self._data

    @property
    def pil(self) -> Image.Image:
        """The picture as a new Pillow image."""
        image = Image.open(io.BytesIO(self.bytes))
        image.load()
        return image

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a .png, .jpg or .webp file, and the folders that are missing. Returns its path.

        A PNG is the service's file, byte for byte. JPEG and WebP keep its XMP, which says that the picture is
        generated. The file is complete or not there. Raises OSError, ServiceError; ValueError for another suffix.
        """
        target = Path(path).expanduser()
        if not target.suffix:
            target = target.with_suffix(".png")
        if target.suffix.lower() not in FORMATS:
            raise ValueError(f"{target.name!r}: a picture's name ends in {', '.join(FORMATS)}.")
        data = self.encoded(FORMATS[target.suffix.lower()])
        target.parent.mkdir(parents=True, exist_ok=True)
        write_file(target, data)
        return target

    def encoded(self, kind: str) -> Data:
        """The file as `PNG`, `JPEG` or `WEBP`."""
        if kind == "PNG":
            return self.bytes
        image, out = self.pil, io.BytesIO()
        xmp = image.info.get("xmp", b"")
        flat = _on_white(image) if kind == "JPEG" else image
        flat.save(out, kind, quality=QUALITY, xmp=xmp)
        return out.getvalue()

    def _repr_png_(self) -> Data:
        """What a notebook shows."""
        return self.bytes

    def __repr__(self) -> str:
        seed = "" if self.seed is None else f", seed {self.seed}"
        return f"<Picture {self.size[0]}x{self.size[1]}{seed}, {self.url or self.id}>"


@dataclass(frozen=True)
class Preview:
    """The picture as it looks after a step: a JPEG."""

    image: int
    step: int
    steps: int
    bytes: Data

    @property
    def pil(self) -> Image.Image:
        return Image.open(io.BytesIO(self.bytes))

    def _repr_jpeg_(self) -> Data:
        return self.bytes


ImageLike: TypeAlias = "str | os.PathLike[str] | bytes | Image.Image | Picture | ImageInfo"
"""A picture of a request: a path, a file's bytes, a Pillow image, a Picture, an id or URL of this service."""


def reference(image: ImageLike) -> str | bytes:
    """What is sent for a picture: the id of a stored one, else the bytes to upload. Blocks: it may read a file.

    Raises BadImage for what is no picture.
    """
    if isinstance(image, Picture | ImageInfo):
        return image.id
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if isinstance(image, Image.Image):
        out = io.BytesIO()
        image.save(out, "PNG")
        return out.getvalue()
    if not isinstance(image, str | os.PathLike):
        raise _bad(f"A {type(image).__name__} is no picture. Pass a path, bytes, a Pillow image or a Picture.")
    written = os.fspath(image)
    if isinstance(image, str) and (stored := _stored(written)):
        return stored
    try:
        return spelling.existing(written).read_bytes()
    except spelling.Ambiguous as several:
        raise _bad(str(several)) from None
    except FileNotFoundError:
        raise _bad(f"There is no file {written!r}.") from None
    except (OSError, ValueError) as failed:
        raise _bad(f"{written!r} cannot be read: {getattr(failed, 'strerror', None) or failed}.") from None


def _stored(text: str) -> str | None:
    """The id of a picture of the service: an id or an address. None for other text."""
    if ID.fullmatch(text):
        return None if os.path.lexists(text) else text
    address = ADDRESS.fullmatch(text)
    return address[1] if address else None


def _on_white(image: Image.Image) -> Image.Image:
    """The picture in RGB; transparent parts become white."""
    if image.mode == "RGB":
        return image
    full = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", full.size, "white"), full).convert("RGB")


def write_file(target: Path, data: bytes) -> None:
    """Write beside the target, then rename, so that no reader sees half a file. Raises OSError."""
    if target.exists() and not target.is_file():  # a pipe or a device
        target.write_bytes(data)
        return
    handle, part = tempfile.mkstemp(dir=target.parent, prefix=".", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(part).chmod(_mode(target))
        Path(part).replace(target)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise


def _mode(target: Path) -> int:
    """The mode of the file to write: that of the one it replaces, else what the umask leaves."""
    if target.exists():
        return target.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _bad(sentence: str) -> BadImage:
    return BadImage("bad_image", sentence)

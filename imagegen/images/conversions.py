"""Conversions: stored pictures in another format or size, signed like their source, made once and kept in a cache.

A signature differs each time, so the bytes that were sent first are kept, and their ETag follows from them. The cache
is a folder per picture, removed with it; a file's name ends in the beginning of its SHA-256, so that a damaged one is
made anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from imagegen.images import convert
from imagegen.images.files import ImageFiles
from imagegen.images.png import AI_SOURCE_TYPE, XMP_KEYWORD, manifest_bytes
from imagegen.images.png_texts import texts
from imagegen.images.provenance.manifest import Facts
from imagegen.images.provenance.signer import NotSigned, Signer
from imagegen.images.store import ImageStore
from imagegen.schemas import StoredImage
from imagegen.storage import permissions
from imagegen.storage.errors import StorageError

log = logging.getLogger("imagegen.images")

MOST_KEPT = 16
"""Conversions of one picture in the cache. Others are made each time they are asked for."""
QUALITY = 90
MEDIA_TYPES = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}


@dataclass(frozen=True)
class File:
    """A file to send. `etag`: quoted, of its bytes."""

    data: bytes
    etag: str

    @classmethod
    def of(cls, data: bytes) -> File:
        return cls(data, f'"{hashlib.sha256(data).hexdigest()[:32]}"')


class Conversions:
    """Reads pictures in any format and width. signer: None where pictures are not signed."""

    def __init__(self, images: ImageStore, files: ImageFiles, signer: Signer | None) -> None:
        self._images, self._files, self._signer = images, files, signer

    async def read(
        self, image: StoredImage, format: convert.Format, width: int | None = None, quality: int = QUALITY
    ) -> File:
        """The picture in `format`, at most `width` pixels wide. Raises Refused as `ImageStore.read`, BrokenPng."""
        if format == "png" and (width is None or width >= image.width):
            data = await self._images.read(image.id)
            return File(data, f'"{image.sha256[:32]}"')
        name = f"{format}-{width or 0}-{quality}"
        kept = await asyncio.to_thread(self._kept, image.id, name)
        if kept is not None:
            return kept
        png = await self._images.read(image.id)
        return await asyncio.to_thread(self._make, image.id, name, png, format, width, quality)

    def _make(
        self, image_id: str, name: str, png: bytes, format: convert.Format, width: int | None, quality: int
    ) -> File:
        converted = convert.convert(png, format, width, quality)
        made = File.of(self._signed(png, converted, MEDIA_TYPES[format]))
        with contextlib.suppress(OSError, StorageError):  # a full disk: it is made again next time
            self._keep(image_id, name, made)
        return self._kept(image_id, name) or made

    def _signed(self, png: bytes, converted: bytes, media_type: str) -> bytes:
        """Sign what a model drew. Uploads are not: the service did not make them."""
        if self._signer is None:
            return converted
        if manifest_bytes(png):
            facts = Facts("converted", {}, (png,))
        elif AI_SOURCE_TYPE in texts(png).get(XMP_KEYWORD, ""):  # drawn before pictures were signed
            facts = Facts("drawn", {})
        else:
            return converted
        try:
            return self._signer.sign(converted, media_type, facts)
        except NotSigned as trouble:
            log.warning("a converted picture is not signed: %s", trouble)
            return converted

    def _kept(self, image_id: str, name: str) -> File | None:
        """The file in the cache; None if there is none, or a damaged one."""
        for path in sorted(self._folder(image_id).glob(f"{name}-*")):
            with contextlib.suppress(OSError):
                kept = File.of(path.read_bytes())
                if path.name == self._name(name, kept):
                    return kept
        return None

    def _keep(self, image_id: str, name: str, made: File) -> None:
        folder = self._folder(image_id)
        permissions.make_folder(folder)
        if sum(1 for _ in folder.iterdir()) >= MOST_KEPT:
            return
        temporary = folder / f".{secrets.token_hex(8)}"
        with os.fdopen(permissions.open_private(temporary, os.O_WRONLY), "wb") as file:
            file.write(made.data)
        temporary.replace(folder / self._name(name, made))

    def _folder(self, image_id: str) -> Path:
        return self._files.converted(image_id)

    @staticmethod
    def _name(name: str, file: File) -> str:
        return f"{name}-{file.etag[1:17]}"

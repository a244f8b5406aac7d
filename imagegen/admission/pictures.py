"""Reads the pictures of a request: stored ones by their ids, and files, which are decoded before any is stored."""

from __future__ import annotations

import asyncio
from typing import TypeGuard

from imagegen.images.masks import decode_mask, stored_mask
from imagegen.images.references import ON_WHITE, Reference, decode_reference, parse_data_url
from imagegen.images.store import ImageStore
from imagegen.requests import Picture
from imagegen.schemas import Refused, StoredImage, Warn
from imagegen.settings import Settings

KEPT_PX = 4 * 1024 * 1024
"""The most pixels of a stored reference: four times the largest picture that the service draws."""


class PictureReader:
    """Reads pictures within the limits of the settings, and stores uploaded ones."""

    def __init__(self, settings: Settings, images: ImageStore) -> None:
        self._settings, self._images = settings, images

    async def upload(self, data: bytes) -> StoredImage:
        """Store a reference picture. Raises Refused 422 `bad_image`."""
        return await self._images.upload(await asyncio.to_thread(self._decode, data))

    async def reference(
        self, picture: Picture, warnings: list[Warn], field: str = "images", keep_px: int | None = KEPT_PX
    ) -> StoredImage | Reference:
        """A stored picture by its id, or a decoded, not yet stored picture from a file or data URL.

        field: its name in errors. keep_px: a larger picture is reduced to this area; None: never.
        Raises Refused 410, 422 `unknown_image`, `bad_image`.
        """
        found: StoredImage | Reference
        if is_id(picture):
            found = await self.stored(picture, field)
        else:
            found = await asyncio.to_thread(self._decode, picture, keep_px)
        warnings += found.warnings
        return found

    async def mask(self, picture: Picture, warnings: list[Warn]) -> Reference:
        """A mask, not yet stored. Raises as `reference`, and 500 `image_damaged`."""
        if is_id(picture):
            stored = await self.stored(picture, "mask")
            mask = await asyncio.to_thread(stored_mask, await self._images.read(stored.id), stored.warnings)
        else:
            mask = await asyncio.to_thread(self._decode_mask, picture)
        warnings += mask.warnings
        return mask

    async def stored(self, image_id: str, field: str) -> StoredImage:
        """The picture, with the warnings that its file would cause as an upload."""
        try:
            stored = await self._images.get(image_id)
            return stored.model_copy(update={"warnings": (ON_WHITE,)}) if stored.transparent else stored
        except Refused as refused:
            if refused.status == 410:
                raise
            raise Refused(
                422,
                "unknown_image",
                f"{field} takes ids of stored pictures and data:image/…;base64, URLs; one is neither.",
            ) from None

    async def store(self, one: StoredImage | Reference, uploads: list[StoredImage]) -> str:
        """Return the id of a reference. Writes an uploaded one to disk and adds it to `uploads`, because the job may
        outlive its request."""
        if isinstance(one, StoredImage):
            return one.id
        image = await self._images.prepare(one)
        uploads.append(image)
        return image.id

    def _decode(self, picture: Picture, keep_px: int | None = KEPT_PX) -> Reference:
        data = file_of(picture, self._settings.max_body_bytes)
        return decode_reference(data, self._settings.max_decoded_px, keep_px)

    def _decode_mask(self, picture: Picture) -> Reference:
        data = file_of(picture, self._settings.max_body_bytes)
        return decode_mask(data, self._settings.max_decoded_px, KEPT_PX)


def is_id(picture: Picture) -> TypeGuard[str]:
    """Whether the picture is named by an id, valid or not, and is no file."""
    return isinstance(picture, str) and picture[:5].lower() != "data:"


def file_of(picture: Picture, max_bytes: int) -> bytes:
    """The file's bytes, from a form or a data URL. Raises Refused 422 `bad_image`."""
    return picture if isinstance(picture, bytes) else parse_data_url(picture, max_bytes)

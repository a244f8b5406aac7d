"""ImageStore: pictures with a time to live. It writes the file first, then the row that makes the picture visible.

A crash can leave a file without a row; a sweep removes it. A row never refers to a file that was not synced.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Row, bindparam, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from imagegen.images.files import ImageFiles, new_id
from imagegen.images.gallery import ALL, Find, listed
from imagegen.images.references import Reference
from imagegen.schemas import ListedImage, Refused, StoredImage, Warn, expired
from imagegen.storage.database import Database
from imagegen.storage.errors import CorruptImage, StorageError
from imagegen.storage.tables import images as table

log = logging.getLogger("imagegen.images")

LOGGED_DIGITS = 8
"""Digits of a picture's id that the log shows: enough to find the file, too few to fetch the picture."""


OF_JOB = select(table).where(table.c.job_id == bindparam("job_id"), table.c.expired_at.is_(None)).order_by(table.c.idx)
KEPT = select(func.count()).where(table.c.kept_at.is_not(None))


class ImageStore:
    """Rows and files of pictures."""

    def __init__(
        self, database: Database, files: ImageFiles, *, ttl_s: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._database, self._files, self._ttl_s, self._clock = database, files, ttl_s, clock
        self.retention = asyncio.Lock()  # held by the sweep, and by all that changes when pictures expire

    async def write(
        self,
        png: bytes,
        *,
        width: int,
        height: int,
        sha256: str,
        seed: int | None,
        index: int,
        warnings: tuple[Warn, ...] = (),
    ) -> StoredImage:
        """Write a job's picture to disk. `insert` makes it visible. warnings: about this picture."""
        image_id = new_id()
        await asyncio.to_thread(self._files.write, image_id, png)
        return StoredImage(
            id=image_id, job_id=None, index=index, width=width, height=height, bytes=len(png), sha256=sha256,
            seed=seed, created_at=self._clock(), expires_at=None, warnings=warnings,
        )  # fmt: skip

    async def discard(self, images: Sequence[StoredImage]) -> None:
        """Delete written pictures that did not become visible. The next start removes what cannot be deleted now."""
        for image in images:
            try:
                await asyncio.to_thread(self._files.delete, image.id)
            except StorageError as kept:
                log.warning("picture %s… is not wanted and cannot be deleted: %s", image.id[:LOGGED_DIGITS], kept)

    async def prepare(self, picture: Reference) -> StoredImage:
        """Write a reference to disk as a PNG that the engine can read. `insert` makes it visible."""
        image_id, now = new_id(), self._clock()
        await asyncio.to_thread(self._files.write, image_id, picture.png)
        return StoredImage(
            id=image_id, job_id=None, index=0, width=picture.width, height=picture.height,
            bytes=len(picture.png), sha256=picture.sha256, seed=None, created_at=now, expires_at=now + self._ttl_s,
            warnings=picture.warnings,
        )  # fmt: skip

    async def upload(self, picture: Reference) -> StoredImage:
        """Store a reference picture for its time to live."""
        image = await self.prepare(picture)
        try:
            async with self._database.writing() as connection:
                await self.insert(connection, [image], expires_at=image.created_at + self._ttl_s)
        except BaseException:
            await self.discard([image])
            raise
        return image

    async def insert(
        self,
        connection: AsyncConnection,
        images: Sequence[StoredImage],
        *,
        expires_at: float | None,
        job_id: str | None = None,
    ) -> None:
        """Make written pictures visible, inside the caller's transaction. expires_at: None while their job runs."""
        for image in images:
            row = image.model_dump(exclude={"index"}) | {
                "idx": image.index,
                "job_id": job_id,
                "expires_at": expires_at,
            }
            await connection.execute(insert(table).values(row))

    async def prolong(self, connection: AsyncConnection, job_id: str, expires_at: float) -> None:
        """Let a job's pictures expire at `expires_at`, except kept ones, inside the caller's transaction."""
        others = table.c.job_id == job_id, table.c.kept_at.is_(None)
        await connection.execute(update(table).where(*others).values(expires_at=expires_at))

    async def current(self, connection: AsyncConnection, image_id: str, now: float) -> StoredImage:
        """The picture, if it has not expired by `now`; a sweep may not have come yet. Raises Refused 404, 410."""
        image = _found((await connection.execute(select(table).where(table.c.id == image_id))).one_or_none())
        if image.expires_at is not None and image.expires_at <= now:
            raise expired("picture", image.expires_at)
        return image

    async def change(self, connection: AsyncConnection, image_id: str, values: Mapping[str, Any]) -> StoredImage:
        """Write columns of a picture, inside the caller's transaction, and return the picture."""
        mine = table.c.id == image_id
        if values:
            await connection.execute(update(table).where(mine).values(**values))
        return _image((await connection.execute(select(table).where(mine))).one())

    async def count_kept(self, connection: AsyncConnection) -> int:
        return int((await connection.execute(KEPT)).scalar_one())

    async def kept(self) -> int:
        """The number of kept pictures."""
        return int((await self._database.fetch(KEPT))[0][0])

    async def unlink(self, ids: Sequence[str]) -> None:
        """Delete files whose rows say so. The next start removes what cannot be deleted now."""
        for image_id in ids:
            try:
                await asyncio.to_thread(self._files.delete, image_id)
            except StorageError as refused:
                log.warning("picture %s… is deleted, but its file is not: %s", image_id[:LOGGED_DIGITS], refused)

    async def get(self, image_id: str) -> StoredImage:
        """Return the picture's row. Raises Refused 404 `image_not_found` or 410 `expired`."""
        async with self._database.reading() as connection:
            return _found((await connection.execute(select(table).where(table.c.id == image_id))).one_or_none())

    async def read(self, image_id: str) -> bytes:
        """Return the PNG file. Raises Refused 404, 410, and 500 `image_damaged` for a missing or changed file."""
        image = await self.get(image_id)
        return await asyncio.to_thread(self._checked, image)

    def _checked(self, image: StoredImage) -> bytes:
        try:
            return self._files.verify(image.id, image.sha256)
        except (CorruptImage, FileNotFoundError):
            if image.expires_at is not None and image.expires_at <= self._clock():
                raise expired("picture", image.expires_at) from None  # deleted, but the row is not updated yet
            log.error("picture %s… is missing from the disk or damaged", image.id[:LOGGED_DIGITS])
            raise Refused(
                500,
                "image_damaged",
                "The file of this picture is missing or damaged on the server's disk. "
                "Draw it again with the same seed.",
            ) from None

    async def of_job(self, connection: AsyncConnection, job_id: str) -> list[StoredImage]:
        return [_image(row) for row in await connection.execute(OF_JOB, {"job_id": job_id})]

    async def drawn_by(self, job_id: str) -> list[StoredImage]:
        """The finished pictures of a job, in order."""
        return [_image(row) for row in await self._database.fetch(OF_JOB, job_id=job_id)]

    async def list(self, limit: int, find: Find = ALL, before: int | None = None) -> list[ListedImage]:
        """At most `limit` pictures with a number below `before`, newest first (`gallery.listed`)."""
        query = listed(find, self._clock()).limit(limit)
        if before is not None:
            query = query.where(table.c.seq < before)
        return [_listed(row) for row in await self._database.fetch(query)]

    async def by_sha256(self, sha256: str) -> StoredImage | None:
        """A picture that a job drew, by its file's SHA-256 (hex); None if there is none."""
        query = (
            select(table)
            .where(table.c.sha256 == sha256, table.c.job_id.is_not(None), table.c.expired_at.is_(None))
            .limit(1)
        )
        rows = await self._database.fetch(query)
        return _image(rows[0]) if rows else None

    async def bytes_stored(self) -> int:
        query = select(func.coalesce(func.sum(table.c.bytes), 0)).where(table.c.expired_at.is_(None))
        async with self._database.reading() as connection:
            return int((await connection.execute(query)).scalar_one())

    async def sweep(self, now: float, *, keep: set[str], forget_before: float) -> None:
        """Delete expired pictures, except the references of waiting jobs (`keep`).

        Files are deleted before rows are updated: on a full disk this frees the space that the database needs.
        """
        async with self.retention:
            ids = await self._sweep(now, keep, forget_before)
        if ids:
            log.info("swept %d pictures", len(ids))

    async def _sweep(self, now: float, keep: set[str], forget_before: float) -> Sequence[str]:
        due = select(table.c.id).where(table.c.expires_at <= now, table.c.expired_at.is_(None))
        async with self._database.reading() as connection:
            ids = [row.id for row in await connection.execute(due) if row.id not in keep]
        for image_id in ids:
            await asyncio.to_thread(self._files.delete, image_id)
        async with self._database.writing() as connection:
            for image_id in ids:
                await connection.execute(
                    update(table).where(table.c.id == image_id).values(expired_at=table.c.expires_at)
                )
            await connection.execute(delete(table).where(table.c.expired_at <= forget_before))
        return ids

    async def sweep_orphans(self) -> None:
        """Remove files that have no row. Call only at startup."""
        async with self._database.reading() as connection:
            known = {row.id for row in await connection.execute(select(table.c.id).where(table.c.expired_at.is_(None)))}
        since = await asyncio.to_thread(self._files.rows_since, self._database.identity)
        orphans = await asyncio.to_thread(self._files.orphans, known, since=since)
        if orphans:
            log.info("removed %d files that no picture owns", orphans)


def _found(row: Row[Any] | None) -> StoredImage:
    if row is None:
        raise Refused(404, "image_not_found", "There is no picture with this id. It may be mistyped.")
    if row.expired_at is not None:
        raise expired("picture", row.expired_at)
    return _image(row)


def _fields(row: Row[Any]) -> dict[str, Any]:
    fields = dict(row._mapping)
    return fields | {"index": fields["idx"], "warnings": fields["warnings"] or ()}


def _image(row: Row[Any]) -> StoredImage:
    return StoredImage.model_validate(_fields(row))


def _listed(row: Row[Any]) -> ListedImage:
    return ListedImage.model_validate(_fields(row))

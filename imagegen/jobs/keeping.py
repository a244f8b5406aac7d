"""Keeper: keeps pictures beyond their expiry with the record of their job, and deletes pictures before it.

A kept picture and its job have no time of expiry, so no sweep sees them. The job's row follows its pictures: see
`JobRepository.follow_images`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import DBAPIError

from imagegen.images.boards import clean_name, clean_note
from imagegen.images.store import ImageStore
from imagegen.jobs.notifications import Notifier
from imagegen.jobs.repository import JobRepository
from imagegen.schemas import Refused, StoredImage
from imagegen.storage.database import Database, storage_failure
from imagegen.storage.errors import StorageFull

log = logging.getLogger("imagegen.jobs")


@dataclass(frozen=True)
class Deleted:
    """The ids of the pictures of a job that were deleted, and of those that were not because they are kept."""

    deleted: tuple[str, ...]
    kept: tuple[str, ...]


class Keeper:
    """Keeps, releases and deletes pictures. A change holds the lock of the sweep, so that neither sees half of it."""

    def __init__(
        self,
        database: Database,
        images: ImageStore,
        changes: Notifier,
        *,
        max_kept: int,
        ttl_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._rows, self._images, self._changes = JobRepository(database, images), images, changes
        self._max, self._ttl_s, self._clock = max_kept, ttl_s, clock

    async def keep(self, image_id: str, wish: dict[str, str | None]) -> StoredImage:
        """Keep a picture; a picture of a draft makes the draft an ordinary job.

        wish: the new `board` and `note`, None for none; what is not named stays as it is.
        Raises Refused 404, 410, 422, and 409 `keep_limit`.
        """
        values = _cleaned(wish)
        async with self._images.retention, self._rows.writing() as connection:
            now = self._clock()
            image = await self._images.current(connection, image_id, now)
            if image.kept_at is None:
                if await self._images.count_kept(connection) >= self._max:
                    raise self._full()
                if image.job_id is not None:
                    await self._rows.end_draft(connection, image.job_id, now + self._ttl_s)
                values |= {"kept_at": now, "expires_at": None}
            image = await self._images.change(connection, image_id, values)
            await self._follow(image.job_id, connection, now)
        self._notify(image.job_id)
        return image

    async def release(self, image_id: str) -> StoredImage:
        """Keep a picture no longer: it expires as if drawn now, and leaves its board. Raises Refused 404, 410."""
        async with self._images.retention, self._rows.writing() as connection:
            now = self._clock()
            image = await self._images.current(connection, image_id, now)
            if image.kept_at is None:
                return image
            image = await self._images.change(connection, image_id, _released(now + self._ttl_s))
            await self._follow(image.job_id, connection, now)
        self._notify(image.job_id)
        return image

    async def delete(self, image_id: str) -> None:
        """Delete a picture now, kept or not. One that a waiting or running job needs goes when that job has ended.

        Raises Refused 404, 410.
        """
        async with self._images.retention:
            async with self._rows.reading() as connection:
                image = await self._images.current(connection, image_id, self._clock())
            await self._delete(image.job_id, [image_id])

    async def delete_of_job(self, job_id: str) -> Deleted:
        """Delete the pictures of a job, as `delete`, except those that are kept.

        Raises Refused 404, 410, and 400 `not_completed`.
        """
        job = await self._rows.get(job_id)
        if not job.status.ended:
            detail = "This job has not ended. Cancel it with DELETE /api/jobs/ID, or wait for its end."
            raise Refused(400, "not_completed", detail)
        async with self._images.retention:
            images = await self._images.drawn_by(job_id)
            kept = tuple(image.id for image in images if image.kept_at is not None)
            due = [image.id for image in images if image.kept_at is None]
            await self._delete(job_id, due)
        return Deleted(tuple(due), kept)

    async def _delete(self, job_id: str | None, ids: Sequence[str]) -> None:
        """Delete rows, then files: a crash between leaves files without a row, which the next start removes.

        On a full disk no row can change until a file has made room.
        """
        if not ids:
            return
        try:
            gone = await self._forget(job_id, ids)
        except DBAPIError as refused:
            if not isinstance(storage_failure(refused), StorageFull):
                raise
            needed = await self._rows.needed_images()
            await self._images.unlink([one for one in ids if one not in needed])
            gone = await self._forget(job_id, ids)
        await self._images.unlink(gone)
        log.info("deleted %d pictures", len(ids))
        self._notify(job_id)

    async def _forget(self, job_id: str | None, ids: Sequence[str]) -> list[str]:
        """Mark pictures as deleted. Returns those that no job needs.

        The others leave their job and expire now, so that a sweep deletes them once they are no longer needed.
        """
        async with self._rows.writing() as connection:
            now, needed = self._clock(), await self._rows.needed_images(connection)
            gone = [one for one in ids if one not in needed]
            for image_id in ids:
                values = _released(now) | ({"job_id": None} if image_id in needed else {"expired_at": now})
                await self._images.change(connection, image_id, values)
            await self._follow(job_id, connection, now)
        return gone

    async def _follow(self, job_id: str | None, connection: Any, now: float) -> None:
        if job_id is not None:
            await self._rows.follow_images(connection, job_id, now)

    def _notify(self, job_id: str | None) -> None:
        if job_id is not None:
            self._changes.notify(job_id)

    def _full(self) -> Refused:
        detail = (
            f"{self._max} pictures are kept, which is the limit (IMAGEGEN_KEEP_MAX). "
            "Delete or release some of them, or raise the limit."
        )
        return Refused(409, "keep_limit", detail)


def _released(expires_at: float) -> dict[str, Any]:
    return {"kept_at": None, "board": None, "note": None, "expires_at": expires_at}


def _cleaned(wish: dict[str, str | None]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if "board" in wish:
        values["board"] = None if wish["board"] is None else clean_name(wish["board"])
    if "note" in wish:
        values["note"] = None if wish["note"] is None else clean_note(wish["note"])
    return values

"""JobRepository: all SQL on the `jobs` table, returning Job values. JobManager has the rules.

A method that takes a connection runs in the caller's transaction, so that the caller can compare the queue in memory
with the table before a change. Every method may raise sqlalchemy's DBAPIError.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from sqlalchemy import Row, Select, bindparam, case, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from imagegen.images.store import ImageStore
from imagegen.jobs.active import ActiveJob
from imagegen.jobs.values import End, NewJob, Recovered
from imagegen.schemas import (
    Job,
    Params,
    Progress,
    Refused,
    Status,
    StoredImage,
    Warn,
    expired,
)
from imagegen.storage.database import Database
from imagegen.storage.tables import jobs as table
from imagegen.storage.tables import webhooks as hooks

HOOK = [hooks.c[name].label(f"hook_{name}") for name in ("url", "attempts", "delivered_at", "error")]
WITH_HOOK = select(table, *HOOK).select_from(table.outerjoin(hooks, hooks.c.job_id == table.c.id))
BY_ID = WITH_HOOK.where(table.c.id == bindparam("id"))
NOT_ENDED = (Status.QUEUED.value, Status.RUNNING.value)
REVISION = {"revision": table.c.revision + 1}
"""Part of every change of a row."""
CLEARED: dict[str, Any] = {
    **REVISION,
    "prompt": "",
    "params": {},
    "refs": [],
    "warnings": [],
    "policy": {},
    **dict.fromkeys(("engine_texts", "progress", "error", "idempotency_key")),
}
"""The columns of a row that has expired."""


class JobRepository:
    """Reads and writes job rows, with the pictures of each job."""

    def __init__(self, database: Database, images: ImageStore) -> None:
        self._database, self._images = database, images

    def reading(self) -> AbstractAsyncContextManager[AsyncConnection]:
        return self._database.reading()

    def writing(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A write transaction; only one runs at a time."""
        return self._database.writing()

    # ---- reads --------------------------------------------------------------------------------

    async def get(self, job_id: str) -> Job:
        """The job. Raises Refused 404 `job_not_found` or 410 `expired`."""
        rows = await self._database.fetch(BY_ID, id=job_id)
        if not rows:
            raise Refused(404, "job_not_found", "There is no job with this id. It may be mistyped.")
        if rows[0].expired_at is not None:
            raise expired("job", rows[0].expired_at)
        return _job(rows[0], await self._images.drawn_by(job_id) if _has_pictures(rows[0]) else [])

    async def list(self, limit: int, before: int | None = None) -> list[Job]:
        """At most `limit` jobs with a sequence number below `before`, newest first, without drafts."""
        kept = WITH_HOOK.where(table.c.expired_at.is_(None), ~table.c.draft)
        query = kept.order_by(table.c.seq.desc()).limit(limit)
        if before is not None:
            query = query.where(table.c.seq < before)
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).all()
            return [await self._read(connection, row) for row in rows]

    async def find_idempotent(self, owner: str | None, key: str, body_sha256: str) -> Job | None:
        """The job made with this Idempotency-Key, or None.

        Raises Refused 409 `idempotency_conflict` if the request body differed, 410 `expired` if the job has expired.
        """
        async with self._database.reading() as connection:
            row = (await connection.execute(_by_key(owner, key))).first()
            if row is None:
                return None
            if row.body_sha256 != body_sha256:
                raise Refused(
                    409,
                    "idempotency_conflict",
                    "This Idempotency-Key was used with another request. Use a new key for a new request.",
                )
            if row.expired_at is not None:
                raise expired("job", row.expired_at)
            return await self._read(connection, row)

    async def needed_images(self, connection: AsyncConnection | None = None) -> set[str]:
        """Ids of the source pictures and masks of jobs that have not ended."""
        query = select(table.c.refs, table.c.mask).where(table.c.status.in_(NOT_ENDED))
        rows = await (self._database.fetch(query) if connection is None else _all(connection, query))
        return {image for row in rows for image in [*row.refs, row.mask] if image}

    # ---- writes -------------------------------------------------------------------------------

    async def find_same(self, connection: AsyncConnection, new: NewJob) -> Job | None:
        """The job of an earlier request with the same Idempotency-Key and body, or None."""
        if not new.idempotency_key:
            return None
        row = (await connection.execute(_by_key(new.owner, new.idempotency_key))).first()
        if row is None or row.body_sha256 != new.body_sha256:
            return None
        return await self._read(connection, row)

    async def insert(
        self, connection: AsyncConnection, job_id: str, new: NewJob, now: float, *, uploads_expire_at: float
    ) -> Job:
        """Insert a queued job and its uploads."""
        values = {
            "id": job_id,
            "kind": new.kind.value,
            "status": Status.QUEUED.value,
            "model": new.model,
            "prompt": new.prompt,
            "params": new.params.model_dump(),
            "refs": list(new.references),
            "mask": new.mask,
            "warnings": [w.model_dump() for w in new.warnings],
            "policy": new.policy.model_dump(),
            "engine_texts": new.engine_texts.model_dump(),
            "owner": new.owner,
            "idempotency_key": new.idempotency_key,
            "body_sha256": new.body_sha256,
            "lease_s": new.lease_s,
            "preview": new.preview,
            "draft": new.draft,
            "created_at": now,
        }
        await self._images.insert(connection, new.uploads, expires_at=uploads_expire_at)
        await connection.execute(insert(table).values(values))
        if (webhook := new.webhook) is not None:
            row = {"job_id": job_id, "url": webhook.url, "secret": webhook.secret, "next_at": now}
            await connection.execute(insert(hooks).values(row))
        return await self._reread(connection, job_id)

    async def start(self, connection: AsyncConnection, job_id: str, progress: Progress, now: float) -> Job | None:
        """Mark a queued job as running; None if it is not queued."""
        done = await connection.execute(
            update(table)
            .where(table.c.id == job_id, table.c.status == Status.QUEUED.value)
            .values(
                **REVISION,
                status=Status.RUNNING.value,
                attempts=table.c.attempts + 1,
                started_at=now,
                progress=progress.model_dump(mode="json"),
            )
        )
        return await self._reread(connection, job_id) if done.rowcount == 1 else None

    async def report(self, job_id: str, progress: Progress) -> None:
        """Write the running job's progress."""
        async with self._database.writing() as connection:
            await connection.execute(
                update(table)
                .where(table.c.id == job_id, table.c.status == Status.RUNNING.value)
                .values(**REVISION, progress=progress.model_dump(mode="json"))
            )

    async def add_picture(
        self, connection: AsyncConnection, job_id: str, image: StoredImage, warnings: Sequence[Warn]
    ) -> bool:
        """Insert a finished picture of the running job; False if it does not run. It expires only after the job's end.

        warnings: replace the row's.
        """
        done = await connection.execute(
            update(table)
            .where(table.c.id == job_id, table.c.status == Status.RUNNING.value)
            .values(**REVISION, warnings=[warning.model_dump() for warning in warnings])
        )
        if done.rowcount == 1:
            await self._images.insert(connection, [image], expires_at=None, job_id=job_id)
        return done.rowcount == 1

    async def drop_lease(self, job_id: str) -> None:
        """Remove the job's lease."""
        async with self._database.writing() as connection:
            await connection.execute(update(table).where(table.c.id == job_id).values(lease_s=None))

    async def keep(self, job_id: str, now: float, expires_at: float) -> bool:
        """Turn a draft into an ordinary job. If it is complete, it and its pictures are kept until `expires_at`.

        Returns False if it is not a draft, was cancelled, failed or has expired.
        """
        complete = table.c.status == Status.COMPLETE.value
        usable = table.c.status.in_([*NOT_ENDED, Status.COMPLETE.value])
        in_time = table.c.expires_at.is_(None) | (table.c.expires_at > now)  # a sweep may be deleting the others
        async with self._database.writing() as connection:
            done = await connection.execute(
                update(table)
                .where(table.c.id == job_id, table.c.draft, usable, in_time)
                .values(**REVISION, draft=False, expires_at=case((complete, expires_at), else_=None))
            )
            if done.rowcount == 1:
                await self._images.prolong(connection, job_id, expires_at)
        return done.rowcount == 1

    async def end_draft(self, connection: AsyncConnection, job_id: str, expires_at: float) -> None:
        """Make a complete draft, if it is one, an ordinary job whose pictures expire at `expires_at`."""
        done = await connection.execute(
            update(table).where(table.c.id == job_id, table.c.draft).values(**REVISION, draft=False)
        )
        if done.rowcount == 1:
            await self._images.prolong(connection, job_id, expires_at)

    async def follow_images(self, connection: AsyncConnection, job_id: str, now: float) -> None:
        """Let an ended job expire with the last of its pictures: never if one is kept, now if none is left.

        A job that has not ended does not expire, whatever becomes of the pictures that it has already.
        """
        mine, open_ = table.c.id == job_id, table.c.status.in_(NOT_ENDED)
        await connection.execute(update(table).where(mine, open_).values(REVISION))
        left = await self._images.of_job(connection, job_id)
        times = [image.expires_at for image in left]
        expires_at = None if None in times else max([one for one in times if one is not None], default=now)
        values = REVISION if left else CLEARED | {"expired_at": now}
        await connection.execute(update(table).where(mine, ~open_).values(**values, expires_at=expires_at))

    async def end(self, connection: AsyncConnection, job_id: str, end: End, images: Sequence[StoredImage] = ()) -> bool:
        """End a job and insert its last pictures; False if it has ended before, or would complete without running.

        The pictures that it has already expire with it; if one of them is kept, the job does not expire.
        """
        open_states = [Status.RUNNING.value] if end.status is Status.COMPLETE else NOT_ENDED
        done = await connection.execute(
            update(table).where(table.c.id == job_id, table.c.status.in_(open_states)).values(REVISION | end.values())
        )
        if done.rowcount != 1:
            return False
        await self._expire_images(connection, job_id, end.expires_at)
        await self._images.insert(connection, images, expires_at=end.expires_at, job_id=job_id)
        return True

    async def _expire_images(self, connection: AsyncConnection, job_id: str, expires_at: float) -> None:
        """Give the pictures of a job that ends their expiry. If one is kept, the job has none."""
        await self._images.prolong(connection, job_id, expires_at)
        if any(image.kept_at is not None for image in await self._images.of_job(connection, job_id)):
            await connection.execute(update(table).where(table.c.id == job_id).values(expires_at=None))

    async def save_end(self, job_id: str, end: End) -> None:
        """Write an end that could not be written before."""
        async with self._database.writing() as connection:
            await connection.execute(update(table).where(table.c.id == job_id).values(REVISION | end.values()))
            await self._expire_images(connection, job_id, end.expires_at)

    async def requeue(self, job_id: str, *, counted: bool) -> bool:
        """Queue the running job again; False if it does not run. `counted`: keep the increased number of attempts."""
        async with self._database.writing() as connection:
            done = await connection.execute(
                update(table)
                .where(table.c.id == job_id, table.c.status == Status.RUNNING.value)
                .values(
                    **REVISION,
                    status=Status.QUEUED.value,
                    attempts=table.c.attempts - (0 if counted else 1),
                    progress=None,
                    started_at=None,
                )
            )
        return done.rowcount == 1

    async def recover(self, max_starts: int) -> Sequence[Recovered]:
        """Queue running jobs again, unless they were started `max_starts` times. Returns all open jobs in order."""
        async with self._database.writing() as connection:
            await connection.execute(
                update(table)
                .where(table.c.status == Status.RUNNING.value, table.c.attempts < max_starts)
                .values(**REVISION, status=Status.QUEUED.value, progress=None, started_at=None)
            )
            query = select(table).where(table.c.status.in_(NOT_ENDED)).order_by(table.c.seq)
            rows = (await connection.execute(query)).all()
        return [Recovered(_active(row), row.lease_s, row.attempts) for row in rows]

    async def expire(self, now: float, *, forget_before: float) -> None:
        """Clear the rows that expire by `now` and delete their webhooks; delete those that expired long ago.

        forget_before: rows that expired before this time are deleted.
        """
        async with self._database.writing() as connection:
            await connection.execute(
                update(table)
                .where(table.c.expires_at <= now, table.c.expired_at.is_(None))
                .values(**CLEARED, expired_at=table.c.expires_at)
            )
            gone = select(table.c.id).where(table.c.expired_at.is_not(None))
            await connection.execute(delete(hooks).where(hooks.c.job_id.in_(gone)))
            await connection.execute(delete(table).where(table.c.expired_at <= forget_before))

    # ---- rows ---------------------------------------------------------------------------------

    async def _reread(self, connection: AsyncConnection, job_id: str) -> Job:
        return await self._read(connection, (await connection.execute(BY_ID, {"id": job_id})).one())

    async def _read(self, connection: AsyncConnection, row: Row[Any]) -> Job:
        return _job(row, await self._images.of_job(connection, row.id) if _has_pictures(row) else [])


def _has_pictures(row: Row[Any]) -> bool:
    """Whether the job may have pictures. A job of several has them as they are finished, a job of one at its end."""
    return bool(row.status == Status.COMPLETE.value or row.params.get("n", 1) > 1)


async def _all(connection: AsyncConnection, query: Select[Any]) -> Sequence[Row[Any]]:
    return (await connection.execute(query)).all()


def _by_key(owner: str | None, key: str) -> Select[Any]:
    return WITH_HOOK.where(table.c.idempotency_key == key, table.c.owner.is_not_distinct_from(owner))


def _job(row: Row[Any], images: Sequence[StoredImage]) -> Job:
    fields = dict(row._mapping)
    fields["references"] = fields.pop("refs")
    fields["preview"] = fields["preview"] or "off"
    hook = {name.removeprefix("hook_"): fields.pop(name) for name in [column.name for column in HOOK]}
    fields["webhook"] = hook if hook["url"] is not None else None
    return Job.model_validate(fields | {"images": images})


def _active(row: Row[Any]) -> ActiveJob:
    running = row.status == Status.RUNNING.value
    params = Params(**row.params)
    return ActiveJob(row.seq, row.id, row.model, params, row.created_at, row.owner, running, draft=row.draft)

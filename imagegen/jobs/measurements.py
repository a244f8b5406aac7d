"""Measurements: stores the measured durations and the idle policy's data in the database."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from sqlalchemy import delete, insert, select
from sqlalchemy.exc import DBAPIError

from imagegen.idle.tracker import IdleTracker
from imagegen.jobs.durations import KEPT, Durations, Measurement
from imagegen.storage.database import Database, storage_failure
from imagegen.storage.notes import Notes
from imagegen.storage.tables import measurements as table

log = logging.getLogger("imagegen")


class Measurements:
    """The `measurements` table, loaded into `durations`, and the note with the data of `idle`."""

    def __init__(self, database: Database, notes: Notes, durations: Durations, idle: IdleTracker) -> None:
        self._database, self._notes, self._durations, self._idle = database, notes, durations, idle

    async def read(self, default: str, files_bytes: int) -> None:
        """Load the stored measurements, oldest first, at the service's start.

        default: the default model, `files_bytes` large; its load times apply until a model is loaded.
        """
        self._idle.restore(await self._notes.read("idle"), default, files_bytes)
        async with self._database.reading() as connection:
            for row in await connection.execute(select(table).order_by(table.c.id)):
                self._durations.add(Measurement(row.model, row.what, row.pixels, row.seconds))

    async def learn(self, new: Sequence[Measurement]) -> None:
        """Add and store the measurements of a job. If the disk is full, they are lost at the next restart."""
        for one in new:
            self._durations.add(one)
        try:
            await self._keep(new)
        except DBAPIError as full:
            log.warning("measurements cannot be written (%s)", storage_failure(full))
        await self.keep_idle()

    async def keep_idle(self) -> None:
        """Store the idle policy's data."""
        await self._notes.keep("idle", self._idle.dump())

    async def _keep(self, new: Sequence[Measurement]) -> None:
        async with self._database.writing() as connection:
            for one in new:
                done = await connection.execute(
                    insert(table).values(
                        model=one.model,
                        what=one.what,
                        pixels=one.pixels,
                        seconds=one.seconds,
                        at=time.time(),
                    )
                )
                same = (table.c.model == one.model) & (table.c.what == one.what)
                last = done.inserted_primary_key
                if last and int(last[0]) % KEPT == 0:
                    kept = select(table.c.id).where(same).order_by(table.c.id.desc()).limit(10 * KEPT)
                    await connection.execute(delete(table).where(same, table.c.id.not_in(kept)))

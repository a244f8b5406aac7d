"""JobManager: the states of jobs: order, leases, ends and notifications.

Only JobManager changes the `jobs` table, through JobRepository. A dispatcher for several hosts would replace
`next_queued` and `start` only: all other methods read rows and notify.

`changes` wakes the worker like every other reader. If the worker's running job is no longer active, it was cancelled.
"""

from __future__ import annotations

import asyncio
import logging
import time
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace

from sqlalchemy.exc import DBAPIError

from imagegen.images.files import new_id
from imagegen.images.store import ImageStore
from imagegen.jobs.active import ActiveJob, ActiveJobs
from imagegen.jobs.leases import Leases
from imagegen.jobs.limits import QueueLimits
from imagegen.jobs.notifications import Notifier
from imagegen.jobs.previews import Previews, StoredPreview
from imagegen.jobs.repository import JobRepository
from imagegen.jobs.values import End, NewJob
from imagegen.schemas import Failure, Job, Progress, Refused, Status, StoredImage, Warn
from imagegen.storage.database import Database, storage_failure
from imagegen.storage.postgres_errors import is_unavailable
from imagegen.telemetry.recorder import Recorder

log = logging.getLogger("imagegen.jobs")

MAX_STARTS = 3
"""A job that was running when the engine or the service died runs again, at most twice (docs/reliability.md)."""
TOMBSTONE_S = 7 * 86400.0
"""How long the id of an expired job is kept, so that the 410 answer has the time of expiry."""
SERVER_PAUSE_S = 1.0
"""Pause between attempts to write while the database server cannot be reached."""
DRAFT_TTL_S = 120.0
"""How long an ended draft is kept, unless the pictures' time to live is shorter."""


class JobManager:
    """The durable FIFO queue.

    Readers, `submit`, `start`, `report` and `complete` raise sqlalchemy's DBAPIError if the disk fails. Other ends
    of a job take effect without the disk: a later sweep writes them. `requeue` fails the job if the disk refuses.
    While a database server cannot be reached, `add_picture`, `complete` and `requeue` wait for it until the service
    stops.

    Each timestamp of a job is at least its previous one, even if the clock is set back.
    """

    def __init__(
        self,
        database: Database,
        images: ImageStore,
        *,
        max_queue: int,
        max_queue_per_token: int | None = None,
        ttl_s: float,
        recorder: Recorder | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._rows = JobRepository(database, images)
        self._images, self._recorder = images, recorder or Recorder()
        self._limits = QueueLimits(max_queue, max_queue_per_token or max_queue)
        self._ttl_s, self._clock = ttl_s, clock
        self._active = ActiveJobs()  # the queue in memory
        self._leases = Leases(self._lease_ran_out)
        self._unsaved: dict[str, End] = {}  # ends that could not be written; the next sweep writes them
        self.changes = Notifier()
        self.previews = Previews(self.changes.notify)
        self.closed = False  # True when the service stops: no new jobs

    # ---- readers ------------------------------------------------------------------------------

    def active(self) -> Sequence[ActiveJob]:
        """Every job that has not ended, in order; the same object until the queue changes."""
        return self._active.in_order()

    def is_active(self, job_id: str) -> bool:
        """Whether the job has not ended."""
        return job_id in self._active

    def position(self, job: Job) -> int | None:
        """The number of jobs ahead, including the running one; 0 while running; None if the job has ended."""
        if job.status.ended:
            return None
        if job.status is Status.RUNNING:
            return 0
        return bisect_left(self._active.in_order(), job.seq, key=lambda one: one.seq)

    async def get(self, job_id: str, *, renew: bool = True) -> Job:
        """The job; `renew` restarts its lease. Raises Refused 404 `job_not_found` or 410 `expired`."""
        job = self._current(await self._rows.get(job_id))
        if renew and job_id in self._leases and job.lease_s:
            self._leases.start(job_id, job.lease_s)
        return job

    async def list(self, limit: int, before: int | None = None) -> list[Job]:
        """At most `limit` jobs with a sequence number below `before`, newest first, without drafts."""
        return [self._current(job) for job in await self._rows.list(limit, before)]

    async def wait(self, job_id: str, seconds: float, stopping: asyncio.Event) -> Job:
        """The job after its next change of status, after `seconds`, or when the service stops."""
        deadline = asyncio.get_running_loop().time() + seconds
        with self.changes.subscribe(job_id) as changed:
            job = first = await self.get(job_id)
            while job.status is first.status and not job.status.ended and not stopping.is_set():
                left = deadline - asyncio.get_running_loop().time()
                if left <= 0:
                    break
                try:
                    await asyncio.wait_for(changed.wait(), left)
                except TimeoutError:
                    break
                changed.clear()
                job = await self.get(job_id)
        return job

    # ---- transports ---------------------------------------------------------------------------

    async def find_idempotent(self, owner: str | None, key: str, body_sha256: str) -> Job | None:
        """The job made with this Idempotency-Key, or None.

        Raises Refused 409 if the request body differed, 410 if the job has expired.
        """
        job = await self._rows.find_idempotent(owner, key, body_sha256)
        return None if job is None else self._current(job)

    async def submit(self, new: NewJob) -> Job:
        """Accept a job. It and its uploads are on the disk on return.

        If a concurrent submit with the same Idempotency-Key was first, its job is returned and the new uploads stay
        invisible. A draft is accepted only if no other job waits or runs, and the next job cancels it, so that a
        draft never delays a job. Raises Refused 429 `queue_full`, 409 `busy` (a draft), 503 `shutting_down`.
        """
        if self.closed:
            raise Refused(503, "shutting_down", "The service is stopping. Try again when it is back.")
        job_id, now = new_id(), self._clock()
        async with self._rows.writing() as connection:
            self._limits.check(self.queued(), new.owner)
            if (same := await self._rows.find_same(connection, new)) is not None:
                return self._current(same)
            if new.draft and len(self._active):
                detail = "Another job waits or runs. A draft is drawn only while there is none; send it again later."
                raise Refused(409, "busy", detail)
            job = await self._rows.insert(connection, job_id, new, now, uploads_expire_at=now + self._ttl_s)
        drafts = [one.id for one in self._active.values() if one.draft]
        self._active[job_id] = ActiveJob(job.seq, job_id, new.model, new.params, now, new.owner, draft=new.draft)
        if new.lease_s:
            self._leases.start(job_id, new.lease_s)
        log.info("job %s queued", job_id)
        self.changes.notify(job_id)
        for draft in drafts:
            await self._end(draft, Status.CANCELLED, unless_kept=True)
        return job

    async def cancel(self, job_id: str) -> Job:
        """Cancel a job. An ended job is returned unchanged."""
        await self._end(job_id, Status.CANCELLED)
        return await self.get(job_id, renew=False)

    async def cancel_queued(self, owner: str | None) -> Sequence[Job]:
        """Cancel the waiting jobs of `owner`, and return them, the newest first. A job that has begun goes on.

        Begins with the newest, so that none of them begins meanwhile.
        """
        waiting = [one.id for one in self.queued() if one.owner == owner]
        return [
            await self.get(job_id, renew=False)
            for job_id in reversed(waiting)
            if await self._end(job_id, Status.CANCELLED, unless_running=True)
        ]

    async def drop_lease(self, job_id: str) -> Job:
        """Remove the lease: the job no longer expires when unread."""
        self._leases.drop(job_id)
        await self._rows.drop_lease(job_id)
        return await self.get(job_id, renew=False)

    async def keep(self, job_id: str) -> bool:
        """Turn a draft into an ordinary job; False if it was cancelled, failed or expired, or is not a draft."""
        now = self._clock()
        if not await self._rows.keep(job_id, now, now + self._ttl_s):
            return False
        if one := self._active.get(job_id):
            self._active[job_id] = replace(one, draft=False)
        log.info("job %s kept", job_id)
        self.changes.notify(job_id)
        return True

    # ---- the worker ---------------------------------------------------------------------------

    def queued(self) -> Iterator[ActiveJob]:
        """The waiting jobs, oldest first."""
        return (one for one in self._active.values() if not one.running)

    def next_queued(self) -> ActiveJob | None:
        """The oldest waiting job; None if there is none."""
        return next(self.queued(), None)

    async def start(self, job_id: str, progress: Progress) -> Job | None:
        """Mark a queued job as running; None if it has ended meanwhile."""
        async with self._rows.writing() as connection:
            one = self._active.get(job_id)  # read here, because `keep` or `cancel` may have been called meanwhile
            if one is None:
                return None
            now = max(self._clock(), one.since)
            job = await self._rows.start(connection, job_id, progress, now)
            if job is None:
                self._active.drop(job_id)
                return None
        self._active[job_id] = replace(one, since=now, running=True, progress=progress)
        log.info("job %s running attempt=%d waited_s=%.3f", job_id, job.attempts, now - job.created_at)
        self.changes.notify(job_id)
        return job

    async def report(self, job_id: str, progress: Progress) -> None:
        """Write the running job's progress. The worker calls this at most twice a second (D-04)."""
        await self._rows.report(job_id, progress)
        if one := self._active.get(job_id):
            self._active[job_id] = replace(one, progress=progress)
        self.changes.notify(job_id)

    def show(self, preview: StoredPreview) -> None:
        """Publish a preview of the running job. A preview after the job's end is dropped."""
        one = self._active.get(preview.job_id)
        if one is not None and one.running:
            self.previews.put(preview)

    async def add_picture(self, job: Job, image: StoredImage, warnings: Sequence[Warn] = ()) -> bool:
        """Make a finished picture of a running job visible; False if the job has ended.

        The picture stays, however the job ends. A job that runs again has it in `images`, and it is not drawn again.
        warnings: all that were found so far. Raises DBAPIError.
        """

        async def add() -> bool:
            async with self._rows.writing() as connection:
                if job.id not in self._active:  # ended, perhaps not yet written
                    return False
                return await self._rows.add_picture(connection, job.id, image, _warnings(job, warnings))

        added = await self._patiently(job.id, add)
        if added:
            log.info("job %s picture=%d of %d", job.id, image.index + 1, job.params.n)
            self.changes.notify(job.id)
        return added

    async def complete(self, job: Job, images: Sequence[StoredImage], warnings: Sequence[Warn] = ()) -> bool:
        """Complete a running job with its last pictures in one transaction; False if it has ended before."""
        found = _warnings(job, warnings)
        return await self._patiently(job.id, lambda: self._end(job.id, Status.COMPLETE, images=images, warnings=found))

    async def fail(self, job_id: str, failure: Failure) -> bool:
        """Fail a job; False if it has ended before."""
        return await self._end(job_id, Status.FAILED, failure=failure)

    async def requeue(self, job_id: str, *, counted: bool) -> None:
        """Put the running job back at its place in the queue. `counted`: this start counts towards MAX_STARTS.

        If the disk refuses, the job fails; while the service stops, the next start of the service recovers it.
        """
        try:
            requeued = await self._patiently(job_id, lambda: self._rows.requeue(job_id, counted=counted))
        except DBAPIError as refused:
            failure = storage_failure(refused)
            log.error("job %s cannot be put back into the queue: %s", job_id, failure)
            if not self.closed:
                await self.fail(job_id, Failure(code=failure.code, detail=f"{failure} Then submit the job again."))
            return
        if requeued and (one := self._active.get(job_id)):
            self._active[job_id] = replace(one, running=False, progress=None)
            self.previews.drop(job_id)
            log.info("job %s queued again counted=%s", job_id, counted)
            self.changes.notify(job_id)

    # ---- maintenance --------------------------------------------------------------------------

    async def recover(self) -> None:
        """Restore the queue, in its order, at the service's start. Jobs that ran when the last process died run again.

        Drafts are cancelled. Jobs that were started MAX_STARTS times fail.
        """
        recovered = await self._rows.recover(MAX_STARTS)
        for one in recovered:
            self._active[one.active.id] = one.active
            if one.lease_s:  # restarted, so that clients have time to reconnect
                self._leases.start(one.active.id, one.lease_s)
        for one in recovered:
            if one.active.draft:
                await self._end(one.active.id, Status.CANCELLED)
            elif one.active.running:
                reason = f"The service died {one.attempts} times while this job ran, so it is not run again."
                await self.fail(one.active.id, Failure(code="gave_up", detail=reason))
        if recovered:
            log.info("recovered %d jobs", len(self._active))

    async def sweep(self) -> None:
        """Expire jobs and pictures that are due. Jobs become tombstones, which are deleted after 7 days.

        Pictures are deleted first, because on a full disk they free the space for the rest.
        """
        now = self._clock()
        forget_before = now - TOMBSTONE_S
        await self._images.sweep(now, keep=await self._rows.needed_images(), forget_before=forget_before)
        await self.save_ends()
        await self._rows.expire(now, forget_before=forget_before)

    async def save_ends(self) -> None:
        """Write the job ends that could not be written before. Raises DBAPIError if the disk still refuses."""
        for job_id, end in list(self._unsaved.items()):
            await self._rows.save_end(job_id, end)
            self._unsaved.pop(job_id)
            log.info("job %s: its end is written now", job_id)

    def close(self) -> None:
        """Refuse new jobs and wake all waiting readers."""
        self.closed = True
        self._leases.clear()
        self.changes.notify_all()

    # ---- internal -----------------------------------------------------------------------------

    async def _patiently(self, job_id: str, write: Callable[[], Awaitable[bool]]) -> bool:
        """Do `write`, again and again while the database server cannot be reached and the service does not stop."""
        waited = False
        while True:
            try:
                return await write()
            except DBAPIError as refused:
                if self.closed or not is_unavailable(refused):
                    raise
            if not waited:
                log.warning("job %s waits for the database server", job_id)
                waited = True
            await asyncio.sleep(SERVER_PAUSE_S)

    async def _end(
        self,
        job_id: str,
        status: Status,
        *,
        failure: Failure | None = None,
        images: Sequence[StoredImage] = (),
        warnings: Sequence[Warn] | None = None,
        unless_kept: bool = False,
        unless_running: bool = False,
    ) -> bool:
        """End a job. Every end passes this method, and it is fenced: it returns False if the job has ended before.

        unless_kept: do nothing and return False if the job is no draft, or no longer one. unless_running: if it runs.
        Raises DBAPIError if a completion cannot be written. Other ends are kept in memory until they can be.
        """
        one = self._active.get(job_id)
        if one is None:
            return False
        now = max(self._clock(), one.since)
        end = End(status, now, now + self._kept_s(one), failure, None if warnings is None else tuple(warnings))
        try:
            async with self._rows.writing() as connection:
                still = self._active.get(job_id)
                if still is None:  # ended by another task, perhaps not yet written
                    return False
                if (unless_kept and not still.draft) or (unless_running and still.running):
                    return False
                one = still  # `start` or `keep` may have been called meanwhile
                now = max(now, one.since)
                end = replace(end, finished_at=now, expires_at=now + self._kept_s(one))
                if not await self._rows.end(connection, job_id, end, images):
                    return False
        except DBAPIError as refused:
            if status is Status.COMPLETE:
                raise
            if job_id not in self._active:
                return False
            log.error("job %s: its end cannot be written yet: %s", job_id, storage_failure(refused))
            self._unsaved[job_id] = end
        self._active.drop(job_id)
        self._leases.drop(job_id)
        self.previews.drop(job_id)
        log.info("job %s %s%s", job_id, status.value, f" code={failure.code}" if failure else "")
        if not one.draft:
            self._recorder.job_ended(status)
        self.changes.notify(job_id)
        return True

    def _kept_s(self, one: ActiveJob) -> float:
        """Seconds for which the job is kept after its end."""
        return min(DRAFT_TTL_S, self._ttl_s) if one.draft else self._ttl_s

    def _current(self, job: Job) -> Job:
        """`job` as read, with its end if that has not been written yet."""
        end = self._unsaved.get(job.id)
        return job if end is None else end.applied(job)

    async def _lease_ran_out(self, job_id: str, seconds: float) -> None:
        reason = f"No client asked for this job for {seconds:g} s, so it was ended. Submit it again."
        await self.fail(job_id, Failure(code="lease_expired", detail=reason))


def _warnings(job: Job, found: Sequence[Warn]) -> tuple[Warn, ...]:
    """The job's warnings and those that this run found. An earlier run may have found the same."""
    return (*job.warnings, *(one for one in found if one not in job.warnings))

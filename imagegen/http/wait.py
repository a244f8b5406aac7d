"""A job waited for: blocking routes make the same jobs as all others, and their client holds the line.

Nobody else knows the id of such a job, so it ends with its client: a dropped connection cancels it, and a lease
ends it if the service dies under the connection and comes back. A client that sent an Idempotency-Key can come
back with it, so its job stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from starlette.requests import ClientDisconnect, Request

from imagegen.app import App
from imagegen.http.context import app_of, owner_of
from imagegen.http.spool import release_body
from imagegen.http.sse import rung
from imagegen.schemas import GenerateRequest, Job, Refused, Status, Warn

LEASE_S = 30.0
PATIENCE_S = 1140.0
"""Longer waits end in an answer of ours: at 1200 s (`traffic.timeout` in service.py) BentoML gives one of its own."""
FAILURE_STATUS = {"storage_full": 507, "gpu_busy": 503}

_letting_go: set[asyncio.Task[Job]] = set()


async def accept(
    request: Request, wanted: GenerateRequest, warnings: Sequence[Warn] = (), *, reduce_size: bool = False
) -> Job:
    """Submit for a client that waits. `warnings`, `reduce_size`: as in `AdmissionController.admit`. Raises Refused."""
    key = request.headers.get("idempotency-key")
    if key is None and wanted.lease_s is None:
        wanted = wanted.model_copy(update={"lease_s": LEASE_S})
    job = await app_of(request).admission.admit(
        wanted, owner=owner_of(request), idempotency_key=key, warnings=warnings, reduce_size=reduce_size
    )
    release_body(request.scope)
    return job


async def until_ended(app: App, job_id: str) -> Job:
    """The job, once it has ended; its lease is renewed. Raises Refused 503 if it will not before the service stops."""
    with app.jobs.changes.subscribe(job_id) as changed:
        while True:
            changed.clear()
            job = await app.jobs.get(job_id)
            if job.status.ended:
                return job
            if app.stopping.is_set() and job.status is Status.QUEUED:
                raise Refused(503, "shutting_down", "The service is stopping. Send the request again when it is back.")
            await rung(changed, (job.lease_s or LEASE_S) / 3)


async def wait_completed(
    request: Request, wanted: GenerateRequest, warnings: Sequence[Warn] = (), *, reduce_size: bool = False
) -> Job:
    """The job of a blocking request, complete. `warnings`, `reduce_size`: as in `AdmissionController.admit`.

    Raises Refused if it was not taken, failed, was cancelled by somebody else or took too long, and
    ClientDisconnect when the client has gone.
    """
    app = app_of(request)
    job = await accept(request, wanted, warnings, reduce_size=reduce_size)
    del wanted  # its pictures are stored
    end = asyncio.create_task(until_ended(app, job.id))
    try:
        if await ended_within(request, end, PATIENCE_S):
            return completed(end.result())
        raise too_long()
    finally:
        release(request, job.id, end)


async def ended_within(request: Request, end: asyncio.Task[Job], seconds: float) -> bool:
    """Whether `end` is done within so long. Raises ClientDisconnect when the client has gone before."""
    gone = asyncio.create_task(disconnected(request))
    try:
        await asyncio.wait({end, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if gone.done() and not end.done():
            raise ClientDisconnect
        return end.done()
    finally:
        gone.cancel()


def too_long() -> Refused:
    """What a blocking call gets when its picture takes longer than a connection is held."""
    detail = f"The picture was not drawn within {PATIENCE_S:.0f} s. POST /api/generate holds no connection open."
    return Refused(504, "wait_too_long", detail)


def completed(job: Job) -> Job:
    """An ended job, if it is complete. Raises Refused with the reason if it is not; it names the job."""
    if job.error is not None:
        raise Refused(FAILURE_STATUS.get(job.error.code, 500), job.error.code, job.error.detail, job_id=job.id)
    if job.status is Status.CANCELLED:
        raise Refused(409, "cancelled", "The job was cancelled.", job_id=job.id)
    return job


def release(request: Request, job_id: str, end: asyncio.Task[Job]) -> None:
    """Nobody waits any more: stop waiting, and cancel a job that has not ended and that nobody can come back to."""
    ended = end.done() and not end.cancelled() and end.exception() is None
    end.cancel()
    if not ended and request.headers.get("idempotency-key") is None:
        task = asyncio.get_running_loop().create_task(app_of(request).jobs.cancel(job_id))
        _letting_go.add(task)  # the loop itself would forget it
        task.add_done_callback(_letting_go.discard)


async def disconnected(request: Request) -> None:
    """Returns when the client has gone; the body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass

"""Blocking routes: submit a job and wait for it while the client keeps the connection open.

Only the waiting client can use such a job, so it ends with the client. A dropped connection cancels the job. If the
service crashes and restarts, the job's lease expires. A client that sent an Idempotency-Key can reconnect with it, so
its job is not cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from starlette.requests import ClientDisconnect, Request

from imagegen.app import App
from imagegen.http.context import app_of, owner_of
from imagegen.http.spool import release_body
from imagegen.http.sse import rung
from imagegen.requests import GenerateRequest, UpscaleRequest
from imagegen.schemas import Job, Refused, Status, Warn

LEASE_S = 30.0
PATIENCE_S = 1140.0
"""The longest wait. At 1200 s (`traffic.timeout` in service.py) BentoML would send its own timeout response."""
FAILURE_STATUS = {"storage_full": 507, "gpu_busy": 503, "gpu_lost": 503}

_letting_go: set[asyncio.Task[Job]] = set()


async def accept(
    request: Request,
    wanted: GenerateRequest | UpscaleRequest,
    warnings: Sequence[Warn] = (),
    *,
    reduce_size: bool = False,
) -> Job:
    """Submit a job for a waiting client. `warnings`, `reduce_size`: see `AdmissionController.admit`. Raises Refused."""
    key = request.headers.get("idempotency-key")
    if key is None and wanted.lease_s is None:
        wanted = wanted.model_copy(update={"lease_s": LEASE_S})
    admission, owner = app_of(request).admission, owner_of(request)
    if isinstance(wanted, UpscaleRequest):
        job = await admission.admit_upscale(wanted, owner=owner, idempotency_key=key, warnings=warnings)
    else:
        job = await admission.admit(
            wanted, owner=owner, idempotency_key=key, warnings=warnings, reduce_size=reduce_size
        )
    release_body(request.scope)
    return job


async def until_ended(app: App, job_id: str) -> Job:
    """Wait until the job has ended, renewing its lease, and return it.

    Raises Refused 503 if the service stops while the job is queued.
    """
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
    """Submit a job and return it once completed. `warnings`, `reduce_size`: see `AdmissionController.admit`.

    Raises Refused if the job was refused, failed, was cancelled or took too long; ClientDisconnect if the client
    disconnected.
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
    """Whether `end` is done within `seconds`. Raises ClientDisconnect if the client disconnects first."""
    gone = asyncio.create_task(disconnected(request))
    try:
        await asyncio.wait({end, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if gone.done() and not end.done():
            raise ClientDisconnect
        return end.done()
    finally:
        gone.cancel()


def too_long() -> Refused:
    """Refused 504 for a blocking call that waited PATIENCE_S."""
    detail = f"The picture was not drawn within {PATIENCE_S:.0f} s. POST /api/generate holds no connection open."
    return Refused(504, "wait_too_long", detail)


def completed(job: Job) -> Job:
    """Return an ended job if it is complete. Otherwise raises Refused with the reason and the job's id."""
    if job.error is not None:
        raise Refused(FAILURE_STATUS.get(job.error.code, 500), job.error.code, job.error.detail, job_id=job.id)
    if job.status is Status.CANCELLED:
        raise Refused(409, "cancelled", "The job was cancelled.", job_id=job.id)
    return job


def release(request: Request, job_id: str, end: asyncio.Task[Job]) -> None:
    """Stop waiting. Cancel the job if it has not ended, unless the client sent an Idempotency-Key."""
    ended = end.done() and not end.cancelled() and end.exception() is None
    end.cancel()
    if not ended and request.headers.get("idempotency-key") is None:
        task = asyncio.get_running_loop().create_task(app_of(request).jobs.cancel(job_id))
        _letting_go.add(task)  # the event loop keeps only a weak reference
        task.add_done_callback(_letting_go.discard)


async def disconnected(request: Request) -> None:
    """Return when the client has disconnected. The request body must have been read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass

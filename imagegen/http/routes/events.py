"""Event stream routes: changes as snapshots of the rows. There is no event log; the newest snapshot wins.

A notification wakes a stream, which reads the current state and sends it. While the client reads slowly, the stream
buffers only the keys of what changed.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from typing import cast

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from imagegen.app import App
from imagegen.http import serialize
from imagegen.http.context import app_of, base_url
from imagegen.http.responses.status import ServiceStatus
from imagegen.http.snapshots import Snapshots, one_line
from imagegen.http.sse import HEARTBEAT, HEARTBEAT_S, RETRY, EventStream, Frames, frame, last_event_id, rung
from imagegen.jobs.notifications import ANY
from imagegen.jobs.previews import PREVIEW, StoredPreview
from imagegen.schemas import EngineState, Job, Refused, Status

FIRST_JOBS = 100
"""A new `/api/events` stream starts with snapshots of at most this many active jobs, oldest first."""
LOADING_S = 1.0
"""How often, in seconds, to send the progress of a load. A warm-up has no row, so it sends no notification."""
RECENT_JOBS, LOST_MS = 200, 2000
"""A reconnecting client gets the jobs, among this many recent ones, that ended after its last event or up to LOST_MS
before."""


def preview_frame(preview: StoredPreview, base: str, event_id: int | None = None) -> bytes:
    return frame(
        "preview",
        one_line({"job_id": preview.job_id} | serialize.preview(preview, base).model_dump(mode="json")),
        event_id,
    )


def snapshots_of(request: Request) -> Snapshots:
    return cast(Snapshots, request.app.state.snapshots)


async def of_job(request: Request) -> Response:
    """Stream `job` events, with the row's revision as id, and `preview` events without an id, until the job has ended.

    Returns 204 to a client that has seen the end, which stops a browser's EventSource from reconnecting.
    """
    app, job_id = app_of(request), request.path_params["job_id"]
    seen = last_event_id(request)
    job = await app.jobs.get(job_id)  # 404 and 410 are HTTP responses, not events
    if job.status.ended and seen is not None and seen >= job.revision:
        return Response(status_code=204)
    return EventStream(job_snapshots(app, snapshots_of(request), job_id, base_url(request), seen))


async def job_snapshots(app: App, shared: Snapshots, job_id: str, base: str, seen: int | None) -> Frames:
    """Yield a snapshot at every change of the row or of a queued job's position. Renews the lease while streaming."""
    jobs = app.jobs
    with jobs.changes.subscribe(job_id) as changed, jobs.changes.subscribe(ANY) as anything:
        job = await jobs.get(job_id)
        queued = job.status is Status.QUEUED  # its position changes without a new revision
        shown = None if seen is None or queued or job.revision > seen else (job.revision, jobs.position(job))
        quiet_s = HEARTBEAT_S if job.lease_s is None else min(HEARTBEAT_S, job.lease_s / 2)
        yield RETRY
        read_at = time.monotonic()
        preview: StoredPreview | None = None
        while True:
            now = job.revision, jobs.position(job)
            newest = jobs.previews.get(job_id)
            if newest is not None and newest is not preview:
                yield preview_frame(newest, base)
            preview = newest
            if now != shown:
                yield frame("job", shared.text(job, base), job.revision)
                shown = now
            if job.status.ended or app.stopping.is_set():
                return
            due = not await rung(anything, read_at + quiet_s - time.monotonic())
            anything.clear()
            if due:
                yield HEARTBEAT
                job, read_at = await jobs.get(job_id), time.monotonic()
            elif changed.is_set():
                changed.clear()
                job = await shared.job(job_id)


async def of_everything(request: Request) -> Response:
    """Stream `status`, `queue`, `job` and `preview` events. `?presence=1` reports that a user is watching.

    The event id is the service's clock in milliseconds. A client that reconnects with it also gets the jobs that
    ended in between.
    """
    present = request.query_params.get("presence", "0")
    if present not in {"0", "1"}:
        raise Refused(422, "invalid_request", "presence must be 0 or 1.")
    app, shared, base = app_of(request), snapshots_of(request), base_url(request)
    return EventStream(all_snapshots(app, shared, base, last_event_id(request), present=present == "1"))


async def all_snapshots(app: App, shared: Snapshots, base: str, since_ms: int | None, *, present: bool) -> Frames:
    """Yield every change: each changed job once, however often it changed since the last event."""
    queue: list[str] | None = None
    status: ServiceStatus | None = None
    with _presence(app, present), app.jobs.changes.subscribe_all() as heard:
        keys: set[str] = {one.id for one in app.jobs.active()[:FIRST_JOBS]} | {"engine"}
        if since_ms is not None:
            ended_after = (since_ms - LOST_MS) / 1000
            recent = await app.jobs.list(RECENT_JOBS)
            keys |= {job.id for job in recent if job.finished_at is not None and job.finished_at > ended_after}
        yield RETRY
        while True:
            now_ms = int(time.time() * 1000)
            order = [one.id for one in app.jobs.active()]
            if order != queue or "engine" in keys:
                fresh = await shared.status()
                if fresh != status:
                    yield frame("status", one_line(fresh), now_ms)
                status = fresh
            if order != queue:
                yield frame("queue", one_line({"jobs": order}), now_ms)
                queue = order
            for job in await _read(shared, keys):
                yield frame("job", shared.text(job, base), now_ms)
            if PREVIEW in keys and (preview := app.jobs.previews.newest()) is not None:
                yield preview_frame(preview, base, now_ms)
            if app.stopping.is_set():
                return
            loading = app.worker.view().state is EngineState.LOADING
            if await rung(heard.event, LOADING_S if loading else HEARTBEAT_S):
                keys = heard.take()
                continue
            keys = {"engine"}
            if not loading:
                yield HEARTBEAT


async def _read(shared: Snapshots, keys: Iterable[str]) -> list[Job]:
    """The jobs among `keys` in order of submission, without expired ones."""
    found = []
    for key in keys:
        with contextlib.suppress(Refused):
            if key not in {"engine", PREVIEW}:
                found.append(await shared.job(key))
    return sorted(found, key=lambda job: job.seq)


@contextlib.contextmanager
def _presence(app: App, present: bool) -> Iterator[None]:
    app.look_on(+present)
    try:
        yield
    finally:
        app.look_on(-present)


ROUTES = [
    Route("/api/jobs/{job_id}/events", of_job, methods=["GET"]),
    Route("/api/events", of_everything, methods=["GET"]),
]

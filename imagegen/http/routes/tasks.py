"""BentoML's task API over the service's jobs: replaces BentoML's own routes for `@bentoml.task`.

BentoML's task queue loses all tasks at a restart, runs them all at once and cannot cancel them (BentoML issues 5141,
5694, 5695). Here a task is an ordinary job: validated at submission, run in order, kept over a crash, cancellable.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from imagegen.admission.repeats import same_again
from imagegen.http import serialize
from imagegen.http.body import read_json
from imagegen.http.context import app_of, base_url, owner_of
from imagegen.http.multipart import read_edit
from imagegen.http.wait import completed, wait_completed
from imagegen.requests import GenerateRequest
from imagegen.schemas import Job, Kind, Refused, Status, timestamp

STATUS = {
    Status.QUEUED: "pending",
    Status.RUNNING: "in_progress",
    Status.COMPLETE: "completed",
    Status.FAILED: "failed",
    Status.CANCELLED: "canceled",
}


async def _wanted(request: Request) -> GenerateRequest:
    if request.scope["path"].startswith("/edit"):
        return await read_edit(request)
    return await read_json(request, GenerateRequest)


async def blocking(request: Request) -> Response:
    """Wait until the job is complete and return it, as the task declares."""
    job = await wait_completed(request, await _wanted(request))
    return serialize.answer(serialize.job(app_of(request), job, base_url(request)))


async def submit(request: Request) -> Response:
    return await _submitted(request, await _wanted(request))


async def status(request: Request) -> Response:
    return _status(request, await _job(request))


async def get(request: Request) -> Response:
    """Return the result of a completed task, any number of times. Raises Refused 400 before the end, like BentoML."""
    job = await _job(request)
    if not job.status.ended:
        state = "waits for its turn" if job.status is Status.QUEUED else "is being drawn"
        raise Refused(400, "not_completed", f"The task {state}. Ask for its status until it is completed.")
    return serialize.answer(serialize.job(app_of(request), completed(job), base_url(request)))


async def retry(request: Request) -> Response:
    """Submit the request of an ended task again. A seed that the caller did not set is drawn again."""
    job = await _job(request)
    if not job.status.ended:
        raise Refused(400, "not_completed", "The task has not ended: there is nothing to try again yet.")
    if job.kind is Kind.UPSCALE:
        raise Refused(422, "invalid_request", "This job is no task. Send its request to POST /api/upscale again.")
    return await _submitted(request, same_again(job))


async def cancel(request: Request) -> Response:
    """Cancel the task. An ended task does not change."""
    job = await app_of(request).jobs.cancel((await _job(request)).id)
    return _status(request, job)


async def _job(request: Request) -> Job:
    task_id = request.query_params.get("task_id")
    if task_id is None:
        raise Refused(400, "invalid_request", "Say which task: ?task_id=…, as submit returned it.")
    return await app_of(request).jobs.get(task_id)


async def _submitted(request: Request, wanted: GenerateRequest) -> Response:
    key = request.headers.get("idempotency-key")
    job = await app_of(request).admission.admit(wanted, owner=owner_of(request), idempotency_key=key)
    return _status(request, job)


def _status(request: Request, job: Job) -> JSONResponse:
    """BentoML's task status, plus position, progress, ETA, warnings and error."""
    view = serialize.job(app_of(request), job, base_url(request)).model_dump(mode="json")
    body: dict[str, Any] = {
        "task_id": job.id,
        "status": STATUS[job.status],
        "created_at": timestamp(job.created_at),
        "executed_at": None if job.started_at is None else timestamp(job.started_at),
    }
    more = ("position", "progress", "eta_s", "warnings", "error")
    return JSONResponse(body | {name: view[name] for name in more if name in view})


ROUTES = [
    route
    for name in ("/generate", "/edit")
    for route in (
        Route(name, blocking, methods=["POST"]),
        Route(f"{name}/submit", submit, methods=["POST"]),
        Route(f"{name}/status", status, methods=["GET"]),
        Route(f"{name}/get", get, methods=["GET"]),
        Route(f"{name}/retry", retry, methods=["POST"]),
        Route(f"{name}/cancel", cancel, methods=["PUT"]),
    )
]
PATHS = frozenset(route.path for route in ROUTES)


class TaskWire:
    """Routes task paths to the app `wire`, because BentoML's own task routes take precedence over mounted apps."""

    def __init__(self, app: ASGIApp, wire: ASGIApp) -> None:
        self._app, self._wire = app, wire

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        ours = scope["type"] == "http" and scope["path"] in PATHS
        await (self._wire if ours else self._app)(scope, receive, send)

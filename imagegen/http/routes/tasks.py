"""BentoML's task wire over our jobs: the routes that `@bentoml.task` declares, answered before BentoML's own.

BentoML's own task queue forgets every task at a start, runs them all at once and cannot cancel one (its issues
5141, 5694, 5695). Here a task is a job like any other: first come, first served, checked when it is submitted,
kept over a kill, cancelled when it is cancelled.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from imagegen.http import serialize
from imagegen.http.body import read_json
from imagegen.http.context import app_of, base_url, owner_of
from imagegen.http.multipart import read_edit
from imagegen.http.wait import completed, wait_completed
from imagegen.schemas import EditRequest, GenerateRequest, Job, Kind, Refused, Status, timestamp

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
    """The job, once it is complete: the declared result."""
    job = await wait_completed(request, await _wanted(request))
    return serialize.answer(serialize.job(app_of(request), job, base_url(request)))


async def submit(request: Request) -> Response:
    return await _submitted(request, await _wanted(request))


async def status(request: Request) -> Response:
    return _status(request, await _job(request))


async def get(request: Request) -> Response:
    """The result of a complete task, as often as it is asked for; 400 before it has ended, as BentoML has it."""
    job = await _job(request)
    if not job.status.ended:
        state = "waits for its turn" if job.status is Status.QUEUED else "is being drawn"
        raise Refused(400, "not_completed", f"The task {state}. Ask for its status until it is completed.")
    return serialize.answer(serialize.job(app_of(request), completed(job), base_url(request)))


async def retry(request: Request) -> Response:
    """A new task that asks for the same as one that has ended; a seed that was chosen for it is chosen anew."""
    job = await _job(request)
    if not job.status.ended:
        raise Refused(400, "not_completed", "The task has not ended: there is nothing to try again yet.")
    return await _submitted(request, same_again(job))


async def cancel(request: Request) -> Response:
    """Cancel; a task that has ended stays as it is."""
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
    """BentoML's keys, and where the task is."""
    view = serialize.job(app_of(request), job, base_url(request)).model_dump(mode="json")
    body: dict[str, Any] = {
        "task_id": job.id,
        "status": STATUS[job.status],
        "created_at": timestamp(job.created_at),
        "executed_at": None if job.started_at is None else timestamp(job.started_at),
    }
    more = ("position", "progress", "eta_s", "warnings", "error")
    return JSONResponse(body | {name: view[name] for name in more if name in view})


def same_again(job: Job) -> GenerateRequest:
    """The request that `job` was made of, with the values that were chosen for it."""
    p = job.params
    fields: dict[str, Any] = {
        "prompt": job.prompt,
        "negative": p.negative or None,
        "width": p.width,
        "height": p.height,
        "steps": p.steps,
        "cfg_scale": p.cfg_scale,
        "sampler": p.sampler,
        "seed": p.seed if p.seed_given else None,
        "n": p.n,
        "model": job.model,
        "speed": p.speed if p.speed == "fast" else None,
    }
    if job.kind is Kind.GENERATE:
        return GenerateRequest(**fields)
    return EditRequest(**fields, images=[*job.references], mask=job.mask, fit=p.fit or "contain")


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
    """Sends the task routes to `wire`, the app that has them: BentoML's own come before what is mounted."""

    def __init__(self, app: ASGIApp, wire: ASGIApp) -> None:
        self._app, self._wire = app, wire

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        ours = scope["type"] == "http" and scope["path"] in PATHS
        await (self._wire if ours else self._app)(scope, receive, send)

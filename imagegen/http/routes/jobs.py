"""Job routes: submit, check, read, wait, list, cancel."""

from __future__ import annotations

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from imagegen.http import responses, serialize
from imagegen.http.body import query_int, read_json
from imagegen.http.context import app_of, base_url, owner_of, prefix
from imagegen.http.multipart import read_edit, read_upscale, read_variation
from imagegen.http.problems import invalid
from imagegen.requests import CheckRequest, GenerateRequest
from imagegen.schemas import Job, Refused, Status

MAX_WAIT_S = 50


async def generate(request: Request) -> Response:
    return await _accept(request, await read_json(request, GenerateRequest))


async def edit(request: Request) -> Response:
    return await _accept(request, await read_edit(request))


async def upscale(request: Request) -> Response:
    wanted, key = await read_upscale(request), request.headers.get("idempotency-key")
    job = await app_of(request).admission.admit_upscale(wanted, owner=owner_of(request), idempotency_key=key)
    return _accepted(request, job)


async def check(request: Request) -> Response:
    """Resolve a request without creating a job: parameters, warnings, time, and whether the model can draw it."""
    app = app_of(request)
    wanted = await read_json(request, CheckRequest)
    try:
        asked = wanted.wanted
    except ValidationError as error:
        raise invalid(error) from None
    return serialize.answer(serialize.check(app, await app.admission.check(asked)))


async def variations(request: Request) -> Response:
    return await _accept(request, await app_of(request).admission.variation(await read_variation(request)))


async def _accept(request: Request, wanted: GenerateRequest) -> Response:
    app = app_of(request)
    key = request.headers.get("idempotency-key")
    job = await app.admission.admit(wanted, owner=owner_of(request), idempotency_key=key)
    return _accepted(request, job)


def _accepted(request: Request, job: Job) -> Response:
    answer = _job(request, job, 202)
    answer.headers["location"] = f"{prefix(request)}/api/jobs/{job.id}"
    return answer


async def read(request: Request) -> Response:
    """Return the job. `?wait=S` waits for its next change of status, at most S seconds."""
    app = app_of(request)
    wait = query_int(request, "wait", 0, 0, MAX_WAIT_S)
    job_id = request.path_params["job_id"]
    job = await (app.jobs.wait(job_id, wait, app.stopping) if wait else app.jobs.get(job_id))
    return _job(request, job)


async def recent(request: Request) -> Response:
    app = app_of(request)
    limit = query_int(request, "limit", 20, 1, 200)
    before = query_int(request, "before", 0, 0, 10**18) or None
    jobs = await app.jobs.list(limit, before)
    following = jobs[-1].seq if len(jobs) == limit else None
    items = [serialize.job(app, job, base_url(request)) for job in jobs]
    return serialize.answer(responses.jobs.Jobs(items=items, next=following))


async def cancel(request: Request) -> Response:
    return _job(request, await app_of(request).jobs.cancel(request.path_params["job_id"]))


async def cancel_queued(request: Request) -> Response:
    """Cancel the caller's waiting jobs. `?status=queued` must be given, so that no slip cancels more than one job."""
    app = app_of(request)
    if request.query_params.get("status") != Status.QUEUED:
        detail = "Say which jobs: DELETE /api/jobs?status=queued cancels those of yours that wait."
        raise Refused(422, "invalid_request", detail, param="status")
    jobs = await app.jobs.cancel_queued(owner_of(request))
    items = [serialize.job(app, job, base_url(request)) for job in jobs]
    return serialize.answer(responses.jobs.Jobs(items=items, next=None))


async def drop_lease(request: Request) -> Response:
    return _job(request, await app_of(request).jobs.drop_lease(request.path_params["job_id"]))


def _job(request: Request, job: Job, status: int = 200) -> Response:
    return serialize.answer(serialize.job(app_of(request), job, base_url(request)), status)


ROUTES = [
    Route("/api/generate", generate, methods=["POST"]),
    Route("/api/edit", edit, methods=["POST"]),
    Route("/api/variations", variations, methods=["POST"]),
    Route("/api/upscale", upscale, methods=["POST"]),
    Route("/api/check", check, methods=["POST"]),
    Route("/api/jobs", recent, methods=["GET"]),
    Route("/api/jobs", cancel_queued, methods=["DELETE"]),
    Route("/api/jobs/{job_id}", read, methods=["GET"]),
    Route("/api/jobs/{job_id}", cancel, methods=["DELETE"]),
    Route("/api/jobs/{job_id}/lease", drop_lease, methods=["DELETE"]),
]

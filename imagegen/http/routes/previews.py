"""Preview routes: read the preview of a running job, and keep a draft."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from imagegen.http import etags, serialize
from imagegen.http.context import app_of, base_url
from imagegen.schemas import Refused


async def read(request: Request) -> Response:
    """Return the newest preview of a running job as JPEG. The query parameters only make each preview's URL unique."""
    app, job_id = app_of(request), request.path_params["job_id"]
    await app.jobs.get(job_id)  # raises 404 and 410, and renews the lease
    preview = app.jobs.previews.get(job_id)
    if preview is None:
        detail = (
            "This job has no preview: it is not being drawn, none was asked for, its model has none, or the first is "
            "not there yet."
        )
        raise Refused(404, "preview_not_found", detail)
    headers = {"etag": preview.etag, "cache-control": "no-store"}
    if etags.is_known(request, preview.etag):
        return Response(status_code=304, headers=headers)
    return Response(preview.data, headers=headers, media_type="image/jpeg")


async def keep(request: Request) -> Response:
    """Turn a draft into an ordinary job."""
    app, job_id = app_of(request), request.path_params["job_id"]
    if await app.jobs.keep(job_id):
        app.worker.keep()
    job = await app.jobs.get(job_id)
    return serialize.answer(serialize.job(app, job, base_url(request)))


ROUTES = [
    Route("/api/jobs/{job_id}/preview", read, methods=["GET"]),
    Route("/api/jobs/{job_id}/draft", keep, methods=["DELETE"]),
]

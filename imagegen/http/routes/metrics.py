"""`/metrics`, for Prometheus. Reading it does not wake the engine or count as activity."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from imagegen.http.context import app_of
from imagegen.telemetry.metrics import Metrics, Snapshot


async def metrics(request: Request) -> Response:
    app = app_of(request)
    counted: Metrics = request.app.state.metrics
    active = app.jobs.active()
    running = sum(one.running for one in active)
    now = Snapshot(
        queued=len(active) - running,
        running=running,
        max_queue=app.settings.max_queue,
        engine=app.worker.view().state,
        stored_bytes=await app.images.bytes_stored(),
        kept_images=await app.images.kept(),
    )
    return Response(counted.page(now), headers={"content-type": CONTENT_TYPE_LATEST})


ROUTES = [Route("/metrics", metrics, methods=["GET"])]

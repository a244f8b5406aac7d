"""The BentoML service, `bentoml serve service:ImageGen`: configure, start, serve, stop.

BentoML's supervisor and its worker both import this module. The service itself is in `imagegen`.
"""

from __future__ import annotations

import os
from typing import Any

import bentoml

from imagegen.app import App
from imagegen.http import serialize
from imagegen.http.asgi import attach, make_app
from imagegen.http.auth import AuthMiddleware, LoopbackOnly
from imagegen.http.body import BodyEncoding, BodyLimit
from imagegen.http.cors import Cors
from imagegen.http.dialects import DialectErrors
from imagegen.http.internal_errors import InternalErrors
from imagegen.http.listener import Connections
from imagegen.http.protocol import install
from imagegen.http.public import PublicAddresses
from imagegen.http.routes.session import Sessions
from imagegen.http.routes.tasks import TaskWire
from imagegen.http.spool import BodySpool, Spool
from imagegen.requests import EditRequest, GenerateRequest
from imagegen.security import tls
from imagegen.security.rate_limit import RateLimit
from imagegen.startup import configuration, port, signals
from imagegen.storage import permissions
from imagegen.telemetry import logs
from imagegen.telemetry.metrics import Metrics

# ---- configure: in the supervisor and in the worker ---------------------------------------------

IN_WORKER = bentoml.server_context.worker_index is not None
try:
    CONFIGURED = configuration.read()
except Exception as failure:
    signals.end_start(failure, IN_WORKER)
SETTINGS = CONFIGURED.settings

# BentoML's task store is not used. By default it is a file that two services share, and each deletes it at its start.
os.environ.setdefault("BENTOML_RESULT_STORE", ":memory:")
logs.configure(SETTINGS.log_level)
SESSIONS = Sessions(CONFIGURED.tokens, SETTINGS.home / "session.key")
METRICS = Metrics()
asgi = make_app(SESSIONS, METRICS)

ANSWERED_BY_TASK_WIRE = "TaskWire answers this route; the declaration tells BentoML's clients and documents of it."


@bentoml.service(
    name="imagegen",
    workers=1,
    resources={"gpu": 1},
    traffic={"timeout": 1200, "max_concurrency": 10_000},  # high, because the limit also applies to status polling
    http={"host": SETTINGS.host, "port": SETTINGS.port},
    ssl={"enabled": False}
    if CONFIGURED.certificate is None
    else {
        "enabled": True,
        "certfile": str(CONFIGURED.certificate.certificate),
        "keyfile": str(CONFIGURED.certificate.key),
        "ciphers": tls.CIPHERS,
    },
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},  # see imagegen/telemetry/metrics.py
)
@bentoml.asgi_app(asgi, path="/")
class ImageGen:
    """Pictures from words, on this machine's GPU."""

    def __init__(self) -> None:
        self._app: App | None = None

    # ---- start ----------------------------------------------------------------------------------

    @bentoml.on_deployment
    @staticmethod
    def supervise() -> None:
        """Runs in the supervisor, before it listens and starts the worker."""
        signals.guard_supervisor()
        try:
            configuration.check(CONFIGURED, *port.asked_for(SETTINGS))
        except Exception as failure:
            signals.end_start(failure, in_worker=False)

    @bentoml.on_startup
    async def start(self) -> None:
        """Runs in the worker, before the first request."""
        signals.guard_worker()
        os.umask(permissions.UMASK)
        app = App(SETTINGS, METRICS, message=serialize.message, lost=signals.end_running)
        try:
            await app.start()
        except Exception as failure:
            await app.stop()
            signals.end_start(failure, in_worker=True)
        attach(asgi, app)
        self._app = app
        if CONFIGURED.certificate is not None:
            tls.announce(CONFIGURED.certificate)
        signals.stop_on_signals(app.begin_stop, SETTINGS.shutdown_grace_s)

    # ---- serve: the routes for BentoML's clients; all others are in the ASGI app --------------------

    @bentoml.task(input_spec=GenerateRequest)
    async def generate(self, **_request: Any) -> dict[str, Any]:
        """Draw pictures from words; the result is the job, with the addresses of its pictures."""
        raise RuntimeError(ANSWERED_BY_TASK_WIRE)

    @bentoml.task(input_spec=EditRequest)
    async def edit(self, **_request: Any) -> dict[str, Any]:
        """Draw pictures from words and reference pictures: ids of stored ones, or data URLs."""
        raise RuntimeError(ANSWERED_BY_TASK_WIRE)

    async def __is_ready__(self) -> bool:
        app = self._app
        return app is not None and not app.stopping.is_set()

    # ---- stop -----------------------------------------------------------------------------------

    @bentoml.on_shutdown
    async def stop(self) -> None:
        """Runs in the worker after the last response; a signal has begun the stop before."""
        if self._app is not None:
            await self._app.stop()


# ---- serve: the middleware between the listener and the routes ----------------------------------

install(
    Connections(CONFIGURED.connections, SETTINGS.max_connections_per_address),
    head_s=SETTINGS.header_timeout_s,
)
WRAPPED: Any = ImageGen  # the bentoml.Service that the decorator made of the class
# The first one added is the outermost. Only middleware that shapes the refusals of AuthMiddleware may precede it.
WRAPPED.add_asgi_middleware(Cors, origins=CONFIGURED.origins)
WRAPPED.add_asgi_middleware(DialectErrors)
WRAPPED.add_asgi_middleware(InternalErrors)  # for errors of the middleware below; the app has its own instance
WRAPPED.add_asgi_middleware(PublicAddresses, public=CONFIGURED.public, proxies=CONFIGURED.proxies)
WRAPPED.add_asgi_middleware(
    AuthMiddleware,
    tokens=CONFIGURED.tokens,
    sessions=SESSIONS,
    hosts=CONFIGURED.hosts,
    rate=RateLimit(SETTINGS.rate_limit_per_s),
    origins=CONFIGURED.origins,
    basic=SETTINGS.a1111,
)
if not CONFIGURED.is_open:
    WRAPPED.add_asgi_middleware(LoopbackOnly)
WRAPPED.add_asgi_middleware(BodyEncoding)
WRAPPED.add_asgi_middleware(BodyLimit, max_bytes=SETTINGS.max_body_bytes)
WRAPPED.add_asgi_middleware(
    BodySpool, spool=Spool(SETTINGS.bodies_dir, SETTINGS.max_bodies_bytes, SETTINGS.body_timeout_s)
)
WRAPPED.add_asgi_middleware(TaskWire, wire=asgi)

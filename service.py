"""The BentoML service: `bentoml serve service:ImageGen`. Everything it does is in `imagegen`; this wires it."""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import logging
import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

import bentoml

from imagegen import engine_build, settings
from imagegen.app import App
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
from imagegen.models.catalog import CatalogError
from imagegen.prompts.guardrails import PolicyError
from imagegen.schemas import EditRequest, GenerateRequest
from imagegen.security import proxies, tls, tokens
from imagegen.security.hosts import Hosts
from imagegen.security.origins import Origins
from imagegen.security.rate_limit import RateLimit
from imagegen.storage import descriptors, permissions
from imagegen.storage.database import StateError
from imagegen.telemetry import logs
from imagegen.telemetry.metrics import Metrics

try:
    SETTINGS = settings.load()
    engine_build.require_gpu(SETTINGS)
    TOKENS = tokens.for_service(SETTINGS)
    TLS = tls.files_of(SETTINGS)
    MOST_CONNECTIONS = descriptors.connections_allowed(SETTINGS, descriptors.raise_limit())
    PUBLIC = proxies.public_url(SETTINGS.public_url)
    PROXIES = proxies.Proxies(SETTINGS.trusted_proxies.split(","))
    HOSTS = Hosts(SETTINGS.allowed_hosts.split(","), PUBLIC.host if PUBLIC else None)
    ORIGINS = Origins(SETTINGS.cors_origins)
except (settings.SettingsError, engine_build.EngineMissing) as wrong:
    sys.exit(f"imagegen cannot start:\n{wrong}")

DRAIN_BOUND_S = 10.0
"""How long clients may take to read their last answers once the picture is done."""

ANSWERED_BY_TASK_WIRE = "TaskWire answers this route; the declaration tells BentoML's clients and documents of it."

# BentoML's own task store is not used; by default two services would delete each other's file of it at the start.
os.environ.setdefault("BENTOML_RESULT_STORE", ":memory:")
logs.configure(SETTINGS.log_level)
SESSIONS = Sessions(TOKENS, SETTINGS.home / "session.key")
METRICS = Metrics()
asgi = make_app(SESSIONS, METRICS)


@bentoml.service(
    name="imagegen",
    workers=1,
    resources={"gpu": 1},
    traffic={"timeout": 1200, "max_concurrency": 10_000},  # it would throttle status polling too
    http={"host": SETTINGS.host, "port": SETTINGS.port},
    ssl={"enabled": True, "certfile": str(TLS.certificate), "keyfile": str(TLS.key), "ciphers": tls.CIPHERS}
    if TLS
    else {"enabled": False},
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},  # imagegen/telemetry/metrics.py says why
)
@bentoml.asgi_app(asgi, path="/")
class ImageGen:
    """Pictures from words, on this machine's GPU."""

    def __init__(self) -> None:
        self._app: App | None = None

    @bentoml.on_startup
    async def start(self) -> None:
        die_with_parent()
        os.umask(permissions.UMASK)
        app = App(SETTINGS, METRICS)
        try:
            await app.start()
        except Exception as wrong:
            told = isinstance(wrong, StateError | CatalogError | PolicyError)
            logging.getLogger("imagegen").error("cannot start: %s", wrong, exc_info=not told)
            await app.stop()
            os.kill(os.getppid(), START_FAILED)
            os.kill(os.getppid(), signal.SIGTERM)  # the supervisor would start a dead worker again for ever
            os._exit(1)  # raising would have the sentence followed by two tracebacks of BentoML's
        attach(asgi, app)
        self._app = app
        if TLS is not None:
            tls.announce(TLS)
        stop_on_signals(app)

    @bentoml.on_shutdown
    async def stop(self) -> None:
        if self._app is not None:
            await self._app.stop()

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


def stop_on_signals(app: App) -> None:
    """Begin to stop at the signal itself: uvicorn would first wait for every open connection to end, and those
    are the long-polls and event streams that only end when the service stops."""
    loop = asyncio.get_running_loop()
    bound_s = SETTINGS.shutdown_grace_s + DRAIN_BOUND_S

    def begin() -> None:
        app.begin_stop()
        # BentoML waits a day for a client that never reads; nothing is lost by then, so the worker ends.
        loop.call_later(bound_s, os._exit, 0)

    for signum in (signal.SIGTERM, signal.SIGINT):
        before = signal.getsignal(signum)

        def handle(number: int, frame: FrameType | None, before: Any = before) -> None:
            loop.call_soon_threadsafe(begin)
            if callable(before):
                before(number, frame)

        signal.signal(signum, handle)


START_FAILED = signal.SIGUSR1
"""What a worker that cannot start sends its supervisor before it ends it."""


def exit_with_failure_after(signum: signal.Signals) -> None:
    """In the supervisor: exit with 1 in the end once the signal has come. BentoML exits with 0 after every SIGTERM,
    which systemd and Docker would take for an orderly stop."""
    failed = False

    def note(_number: int, _frame: FrameType | None) -> None:
        nonlocal failed
        failed = True

    def end() -> None:
        if failed:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(1)

    if threading.current_thread() is threading.main_thread():
        signal.signal(signum, note)
        atexit.register(end)


def die_with_parent() -> None:
    """Ask the kernel to end this worker when the supervisor dies: it would live on and hold port and GPU."""
    parent = os.getppid()
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died in between
            os.kill(os.getpid(), signal.SIGKILL)


exit_with_failure_after(START_FAILED)
install(Connections(MOST_CONNECTIONS, SETTINGS.max_connections_per_address), head_s=SETTINGS.header_timeout_s)
WRAPPED: Any = ImageGen  # what @bentoml.service made of the class
# The first one added is the outermost: nothing may be put in front of the lock but what shapes its refusals.
WRAPPED.add_asgi_middleware(Cors, origins=ORIGINS)
WRAPPED.add_asgi_middleware(DialectErrors)
WRAPPED.add_asgi_middleware(InternalErrors)  # of the middleware below; the app has its own
WRAPPED.add_asgi_middleware(PublicAddresses, public=PUBLIC, proxies=PROXIES)
WRAPPED.add_asgi_middleware(
    AuthMiddleware,
    tokens=TOKENS,
    sessions=SESSIONS,
    hosts=HOSTS,
    rate=RateLimit(SETTINGS.rate_limit_per_s),
    origins=ORIGINS,
    basic=SETTINGS.a1111,
)
if TOKENS is None and not SETTINGS.allow_anonymous:
    WRAPPED.add_asgi_middleware(LoopbackOnly)
WRAPPED.add_asgi_middleware(BodyEncoding)
WRAPPED.add_asgi_middleware(BodyLimit, max_bytes=SETTINGS.max_body_bytes)
WRAPPED.add_asgi_middleware(
    BodySpool, spool=Spool(SETTINGS.bodies_dir, SETTINGS.max_bodies_bytes, SETTINGS.body_timeout_s)
)
WRAPPED.add_asgi_middleware(TaskWire, wire=asgi)

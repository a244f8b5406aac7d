"""The BentoML service: `bentoml serve service:ImageGen`. Everything it does is in `imagegen`; this wires it."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys

import bentoml
from imagegen.guardrails import PolicyError

from imagegen import logs, settings
from imagegen.backend import Backend
from imagegen.database import StateError
from imagegen.http.app import attach, make_app
from imagegen.http.body import BodyLimit
from imagegen.http.security import LoopbackOnly
from imagegen.models.catalog import CatalogError

try:
    SETTINGS = settings.load()
except settings.SettingsError as wrong:
    sys.exit(f"imagegen cannot start:\n{wrong}")

logs.configure(SETTINGS.log_level)
app = make_app()


@bentoml.service(
    name="imagegen",
    workers=1,
    resources={"gpu": 1},
    traffic={"timeout": 1200, "max_concurrency": 10_000},  # it would throttle status polling too
    http={"host": SETTINGS.host, "port": SETTINGS.port},
    logging={"access": {"enabled": False}},
)
@bentoml.asgi_app(app, path="/")
class ImageGen:
    """Pictures from words, on this machine's GPU."""

    def __init__(self) -> None:
        self._backend: Backend | None = None

    @bentoml.on_startup
    async def start(self) -> None:
        die_with_parent()
        backend = Backend(SETTINGS)
        try:
            await backend.start()
        except Exception as wrong:
            told = isinstance(wrong, StateError | CatalogError | PolicyError)
            logging.getLogger("imagegen").error("cannot start: %s", wrong, exc_info=not told)
            await backend.stop()
            os.kill(os.getppid(), signal.SIGTERM)  # the supervisor would start a dead worker again for ever
            raise
        attach(app, backend)
        self._backend = backend

    @bentoml.on_shutdown
    async def stop(self) -> None:
        if self._backend is not None:
            await self._backend.stop()

    async def __is_ready__(self) -> bool:
        backend = self._backend
        return backend is not None and not backend.stopping.is_set()


def die_with_parent() -> None:
    """Ask the kernel to end this worker when the supervisor dies: it would live on and hold port and GPU."""
    parent = os.getppid()
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died in between
            os.kill(os.getpid(), signal.SIGKILL)


ImageGen.add_asgi_middleware(BodyLimit, max_bytes=SETTINGS.max_body_bytes)
if not SETTINGS.allow_anonymous:
    ImageGen.add_asgi_middleware(LoopbackOnly)

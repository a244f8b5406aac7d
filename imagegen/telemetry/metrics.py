"""Metrics for Prometheus: counters of recorded events, and gauges of the current state.

The number of series is bounded: labels are states, reasons and models of the catalog, never an id, a path or a token.
The registry belongs to this process. BentoML's metrics are off (see service.py): they create series for every path,
hence for every job, and store them in one folder per user, which the start of any other BentoML service empties.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
    values,
)

from imagegen import __version__
from imagegen.engines.base import DrawTimes
from imagegen.schemas import EngineState, Status
from imagegen.telemetry.recorder import Recorder

# BentoML sets PROMETHEUS_MULTIPROC_DIR, with which prometheus_client keeps every value in a file of that shared folder.
values.ValueClass = values.MutexValue

LOAD_S = (0.5, 1, 2, 5, 10, 20, 40, 80, 160, 320)
PHASE_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
DRAW_S = (0.1, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640, 1200)
"""Upper bounds of the buckets, in seconds: from a synthetic model on a CPU to IMAGEGEN_MAX_JOB_S."""

REASONS = {
    "idle": "idle",
    "asked for": "asked",
    "another model is asked for": "other_model",
    "the service stops": "stop",
    "a running job was cancelled": "cancel",
    "a cancelled picture did not end": "cancel",
    "the load ended early": "load_ended",
}
"""The labels for the reasons of an unload. All other reasons are `failure`."""


@dataclass(frozen=True)
class Snapshot:
    """The state at the time of a scrape. Reading it does not wake the worker."""

    queued: int
    running: int
    max_queue: int
    engine: EngineState
    stored_bytes: int
    kept_images: int


class Metrics(Recorder):
    """Counts the recorded events; `page` renders them for Prometheus."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._idle_since: float | None = None
        self._registry = own = CollectorRegistry()
        ProcessCollector(registry=own)
        Gauge("imagegen_info", "What runs: always 1.", ["version"], registry=own).labels(__version__).set(1)
        self._jobs = Counter("imagegen_jobs_ended", "Jobs that ended, by how.", ["status"], registry=own)
        self._queue = Gauge("imagegen_queue_jobs", "Jobs that have not ended.", ["status"], registry=own)
        self._max_queue = Gauge("imagegen_queue_max_jobs", "Most jobs that may wait.", registry=own)
        self._state = Gauge("imagegen_engine_state", "1 for the state the engine is in.", ["state"], registry=own)
        self._idle = Counter("imagegen_engine_idle_seconds", "Time a loaded engine had nothing to draw.", registry=own)
        self._cold_starts = Counter("imagegen_cold_starts", "Loads of a model into a new engine.", registry=own)
        self._unloads = Counter("imagegen_unloads", "Ends of an engine process, by reason.", ["reason"], registry=own)
        self._load = _histogram("load", "Time a model took to load.", LOAD_S, own)
        self._encode = _histogram("encode", "Time a picture's prompt and references took.", PHASE_S, own)
        self._step = _histogram("step", "Mean time of a picture's sampling steps.", PHASE_S, own)
        self._draw = _histogram("draw", "Time a whole picture took on a loaded engine.", DRAW_S, own)
        self._stored = Gauge("imagegen_stored_bytes", "Size of all stored pictures.", registry=own)
        self._kept = Gauge("imagegen_kept_images", "Pictures that are kept beyond their expiry.", registry=own)
        for status in (Status.COMPLETE, Status.FAILED, Status.CANCELLED):
            self._jobs.labels(status.value)  # rate() needs an initial zero
        for reason in {*REASONS.values(), "failure"}:
            self._unloads.labels(reason)

    # ---- events -------------------------------------------------------------------------------

    def job_ended(self, status: Status) -> None:
        self._jobs.labels(status.value).inc()

    def engine_entered(self, state: EngineState) -> None:
        self._count_idle()
        self._idle_since = self._clock() if state is EngineState.READY else None

    def loaded(self, model: str, seconds: float) -> None:
        self._cold_starts.inc()
        self._load.labels(model).observe(seconds)

    def unloaded(self, reason: str) -> None:
        self._unloads.labels(REASONS.get(reason, "failure")).inc()

    def drew(self, model: str, times: DrawTimes) -> None:
        self._draw.labels(model).observe(times.total_s)
        if times.encode_s is not None:
            self._encode.labels(model).observe(times.encode_s)
        if times.sample_s is not None and times.steps:
            self._step.labels(model).observe(times.sample_s / times.steps)

    # ---- scrapes ------------------------------------------------------------------------------

    def page(self, now: Snapshot) -> bytes:
        """All metrics, in Prometheus' text format."""
        self._count_idle()
        self._queue.labels("queued").set(now.queued)
        self._queue.labels("running").set(now.running)
        self._max_queue.set(now.max_queue)
        for state in EngineState:
            self._state.labels(state.value).set(state is now.engine)
        self._stored.set(now.stored_bytes)
        self._kept.set(now.kept_images)
        return generate_latest(self._registry)

    def _count_idle(self) -> None:
        if self._idle_since is not None:
            now = self._clock()
            self._idle.inc(now - self._idle_since)
            self._idle_since = now


def _histogram(what: str, about: str, bounds: tuple[float, ...], registry: CollectorRegistry) -> Histogram:
    return Histogram(f"imagegen_{what}_seconds", about, ["model"], buckets=bounds, registry=registry)

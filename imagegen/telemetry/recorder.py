"""Recorder: the interface through which the service reports events to its metrics."""

from __future__ import annotations

from imagegen.engines.base import DrawTimes
from imagegen.schemas import EngineState, Status


class Recorder:
    """Ignores all events; `Metrics` overrides it. Every method returns at once and never raises."""

    def job_ended(self, status: Status) -> None:
        """A job ended with `status`."""

    def engine_entered(self, state: EngineState) -> None:
        """The engine entered `state`."""

    def loaded(self, model: str, seconds: float) -> None:
        """A cold start: `model` was loaded into a new engine process in `seconds`."""

    def unloaded(self, reason: str) -> None:
        """An engine process was ended; `reason`: as in the log."""

    def drew(self, model: str, times: DrawTimes) -> None:
        """One picture was drawn in `times`."""

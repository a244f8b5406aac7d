"""What happens inside, told to whoever counts it: the one seam between the service's parts and its metrics."""

from __future__ import annotations

from imagegen.engines.base import DrawTimes
from imagegen.schemas import EngineState, Status


class Recorder:
    """Listens and forgets. Every method returns at once and never raises."""

    def job_ended(self, status: Status) -> None:
        """A job ended, however it did."""

    def engine_entered(self, state: EngineState) -> None:
        """The engine is in another state."""

    def loaded(self, model: str, seconds: float) -> None:
        """A cold start: `model` was loaded into a new engine process in `seconds`."""

    def unloaded(self, reason: str) -> None:
        """An engine process was ended; `reason` as the log says it."""

    def drew(self, model: str, times: DrawTimes) -> None:
        """One picture was drawn."""

"""LoadBackoff: when a model may be loaded again after a failed load. It does not change the engine's state."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from math import ceil

from imagegen.engines.base import EngineError
from imagegen.schemas import Failure, Refused
from imagegen.worker.provider import EngineProvider

log = logging.getLogger("imagegen.engine")

FIRST_RETRY_S, LAST_RETRY_S = 30.0, 600.0
"""Wait before the next load after the first failure, and its maximum. The wait doubles with each failure. A change of
the model's files ends it."""


@dataclass(frozen=True)
class FailedLoad:
    """A model's last failed load: the reason, the fingerprint of its files, and when to retry (monotonic seconds)."""

    failure: Failure
    fingerprint: object
    retry_at: float
    wait_s: float


class LoadBackoff:
    """Keeps the last failed load of each model."""

    def __init__(self, provider: EngineProvider) -> None:
        self._provider = provider
        self._failures: dict[str, FailedLoad] = {}

    def forget(self, model: str) -> None:
        """Remove the failure of `model`, because it has been loaded."""
        self._failures.pop(model, None)

    def record(self, model: str, error: EngineError | Refused) -> Failure:
        """Note that `model` did not load, and set the time of the next try. Returns the failure for its jobs."""
        before = self._failures.get(model)
        wait_s = min(before.wait_s * 2, LAST_RETRY_S) if before else FIRST_RETRY_S
        failure = Failure(code=error.code, detail=error.detail)
        self._failures[model] = FailedLoad(failure, self._fingerprint(model), time.monotonic() + wait_s, wait_s)
        log.error("model %s did not load code=%s retry_s=%.0f", model, error.code, wait_s)
        return failure

    def refusal(self, model: str) -> Refused | None:
        """The 503 for a warm-up that arrives before the next try is due; None if it is due."""
        wait_s = ceil(self.retry_in_s(model))
        if not wait_s:
            return None
        last = self._failures[model].failure
        return Refused(
            503,
            last.code,
            f"The model {model} did not load: {last.detail} The next try is due in {wait_s} s, or when a file of the "
            "model or the engine changes.",
            retry_after_s=wait_s,
        )

    def retry_in_s(self, model: str) -> float:
        """Seconds until `model` may be loaded again after a failed load; 0 if now."""
        failed = self._failures.get(model)
        if failed is None:
            return 0.0
        if self._fingerprint(model) != failed.fingerprint:
            del self._failures[model]  # the files changed: the wait starts at FIRST_RETRY_S again
            return 0.0
        return max(0.0, failed.retry_at - time.monotonic())

    def _fingerprint(self, model: str) -> object:
        try:
            return self._provider.fingerprint(self._provider.find_model(model))
        except Refused:
            return None

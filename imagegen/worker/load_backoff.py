"""LoadBackoff: when a model whose load failed may be tried again. It sets no state of the engine."""

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
"""After a failed load the next try waits this long, doubling, unless the model's files change."""


@dataclass(frozen=True)
class FailedLoad:
    """A model's last load failed: why, with which files, and when (monotonic) the next try may be."""

    failure: Failure
    fingerprint: object
    retry_at: float
    wait_s: float


class LoadBackoff:
    """The failed loads, by model."""

    def __init__(self, provider: EngineProvider) -> None:
        self._provider = provider
        self._failures: dict[str, FailedLoad] = {}

    def forget(self, model: str) -> None:
        """`model` was loaded."""
        self._failures.pop(model, None)

    def record(self, model: str, error: EngineError | Refused) -> Failure:
        """Note that `model` did not load; the next try waits. The reason, as the waiting jobs get it."""
        before = self._failures.get(model)
        wait_s = min(before.wait_s * 2, LAST_RETRY_S) if before else FIRST_RETRY_S
        failure = Failure(code=error.code, detail=error.detail)
        self._failures[model] = FailedLoad(failure, self._fingerprint(model), time.monotonic() + wait_s, wait_s)
        log.error("model %s did not load code=%s retry_s=%.0f", model, error.code, wait_s)
        return failure

    def refusal(self, model: str) -> Refused | None:
        """What a warm-up is told that comes before the next try is due; None: try now."""
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
        """Seconds that a job for `model` has to wait after a failed load; 0: try now."""
        failed = self._failures.get(model)
        if failed is None:
            return 0.0
        if self._fingerprint(model) != failed.fingerprint:
            del self._failures[model]  # something was put right: a fresh start
            return 0.0
        return max(0.0, failed.retry_at - time.monotonic())

    def _fingerprint(self, model: str) -> object:
        try:
            return self._provider.fingerprint(self._provider.find_model(model))
        except Refused:
            return None

"""Schedule: selects the next job."""

from __future__ import annotations

from imagegen.jobs.active import ActiveJob
from imagegen.jobs.manager import JobManager
from imagegen.worker.load_backoff import LoadBackoff


class Schedule:
    """Selects jobs in queue order, and skips models that wait after a failed load."""

    def __init__(self, jobs: JobManager, backoff: LoadBackoff) -> None:
        self._jobs, self._backoff = jobs, backoff

    def next(self) -> tuple[ActiveJob | None, float | None]:
        """The oldest job whose model may be loaded now, or None and the seconds until the first model may be.

        A failed load delays the jobs of its model only. Both values are None if the queue is empty.
        """
        held: dict[str, float] = {}
        for active in self._jobs.queued():
            if active.model not in held:
                left_s = self._backoff.retry_in_s(active.model)
                if left_s == 0:
                    return active, None
                held[active.model] = left_s
        return None, min(held.values(), default=None)

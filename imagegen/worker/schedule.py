"""Schedule: which job is due."""

from __future__ import annotations

from imagegen.jobs.active import ActiveJob
from imagegen.jobs.manager import JobManager
from imagegen.worker.load_backoff import LoadBackoff


class Schedule:
    """The queue's order, less the jobs whose model waits for another try."""

    def __init__(self, jobs: JobManager, backoff: LoadBackoff) -> None:
        self._jobs, self._backoff = jobs, backoff

    def next(self) -> tuple[ActiveJob | None, float | None]:
        """The oldest job whose model may be tried now; else the seconds until one that waits may be.

        A model whose last load failed holds back its own jobs, not those of other models.
        """
        held: dict[str, float] = {}
        for active in self._jobs.queued():
            if active.model not in held:
                left_s = self._backoff.retry_in_s(active.model)
                if left_s == 0:
                    return active, None
                held[active.model] = left_s
        return None, min(held.values(), default=None)

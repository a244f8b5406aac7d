"""The limits on waiting jobs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from imagegen.jobs.active import ActiveJob
from imagegen.schemas import Refused


@dataclass(frozen=True)
class QueueLimits:
    """The maximum number of waiting jobs: in total, and per token."""

    max_queue: int
    max_queue_per_token: int

    def check(self, queued: Iterable[ActiveJob], owner: str | None) -> None:
        """Raises Refused 429 `queue_full` if a further job of the token `owner` would exceed a limit."""
        waiting = [one.owner for one in queued]
        if len(waiting) >= self.max_queue:
            detail = f"{self.max_queue} jobs are waiting already. Try again when some have ended."
            raise Refused(429, "queue_full", detail)
        if owner is not None and waiting.count(owner) >= self.max_queue_per_token:
            detail = (
                f"{self.max_queue_per_token} jobs of the token {owner} are waiting already "
                "(IMAGEGEN_MAX_QUEUE_PER_TOKEN). Try again when some have ended."
            )
            raise Refused(429, "queue_full", detail)

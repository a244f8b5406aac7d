"""The queue in memory: what its readers and the arithmetic of waiting need of every job that has not ended."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from imagegen.schemas import Params, Progress


@dataclass(frozen=True)
class ActiveJob:
    """What the queue's arithmetic needs of a job that has not ended."""

    seq: int
    id: str
    model: str
    params: Params
    since: float  # POSIX seconds: its newest time, which the next one must not precede
    owner: str | None = None
    running: bool = False
    progress: Progress | None = None  # the newest reported, while running
    draft: bool = False


class ActiveJobs:
    """The jobs that have not ended, in order of seq. `order` is asked for far more often than it changes."""

    def __init__(self) -> None:
        self._jobs: dict[str, ActiveJob] = {}
        self._ordered: tuple[ActiveJob, ...] | None = None

    def in_order(self) -> tuple[ActiveJob, ...]:
        if self._ordered is None:
            self._ordered = tuple(self._jobs.values())
        return self._ordered

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._jobs

    def __len__(self) -> int:
        return len(self._jobs)

    def __setitem__(self, job_id: str, one: ActiveJob) -> None:
        self._jobs[job_id], self._ordered = one, None

    def get(self, job_id: str) -> ActiveJob | None:
        return self._jobs.get(job_id)

    def values(self) -> Iterable[ActiveJob]:
        return self._jobs.values()

    def drop(self, job_id: str) -> None:
        self._jobs.pop(job_id, None)
        self._ordered = None

"""The queue in memory: the data of every job that has not ended, for readers and time estimates."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from imagegen.schemas import Params, Progress


@dataclass(frozen=True)
class ActiveJob:
    """The in-memory data of a job that has not ended."""

    seq: int
    id: str
    model: str
    params: Params
    since: float  # POSIX seconds: the job's latest timestamp; later ones must not precede it
    owner: str | None = None
    running: bool = False
    progress: Progress | None = None  # the latest report, while running
    draft: bool = False


class ActiveJobs:
    """The jobs that have not ended, in order of seq. `in_order` is cached, because reads far outnumber changes."""

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

"""Values of the jobs table besides Job: a new job, an end, a recovered job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from imagegen.jobs.active import ActiveJob
from imagegen.schemas import EngineTexts, Failure, Job, Kind, Params, Policy, PreviewWish, Status, StoredImage, Warn
from imagegen.security.webhook_targets import Webhook


@dataclass(frozen=True)
class NewJob:
    """A request that passed all checks, with all parameters resolved."""

    kind: Kind
    model: str
    prompt: str
    params: Params
    policy: Policy
    engine_texts: EngineTexts
    references: tuple[str, ...] = ()
    mask: str | None = None
    warnings: tuple[Warn, ...] = ()
    lease_s: float | None = None
    uploads: tuple[StoredImage, ...] = ()  # references sent with the request; kept only if the job is accepted
    owner: str | None = None
    idempotency_key: str | None = None
    body_sha256: str | None = None
    preview: PreviewWish = "off"
    draft: bool = False
    webhook: Webhook | None = None


@dataclass(frozen=True)
class End:
    """How and when a job ended. Times are POSIX seconds. `warnings` None: the row's warnings stay."""

    status: Status
    finished_at: float
    expires_at: float
    failure: Failure | None = None
    warnings: tuple[Warn, ...] | None = None

    def values(self) -> dict[str, Any]:
        """The columns to update."""
        values: dict[str, Any] = {"status": self.status.value, "progress": None}
        values |= {"finished_at": self.finished_at, "expires_at": self.expires_at}
        if self.failure:
            values["error"] = self.failure.model_dump()
        if self.warnings is not None:
            values["warnings"] = [warning.model_dump() for warning in self.warnings]
        return values

    def applied(self, job: Job) -> Job:
        """`job` as it will be read after this end is written."""
        changed: dict[str, Any] = {"status": self.status, "progress": None, "revision": job.revision + 1}
        changed |= {"finished_at": self.finished_at, "expires_at": self.expires_at}
        if self.failure:
            changed["error"] = self.failure
        if self.warnings is not None:
            changed["warnings"] = list(self.warnings)
        return job.model_copy(update=changed)


@dataclass(frozen=True)
class Recovered:
    """A job that had not ended when the last process died. `active.running`: it was started `max_starts` times."""

    active: ActiveJob
    lease_s: float | None
    attempts: int

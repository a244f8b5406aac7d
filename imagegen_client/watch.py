"""Follow a job to its end: its readings, previews, and outages of the service."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from imagegen_client import calls
from imagegen_client.answers import JobState
from imagegen_client.errors import JobCancelled, JobFailed, ServiceError, Unreachable
from imagegen_client.pictures import Preview
from imagegen_client.progress import describe, percent
from imagegen_client.wire import Call, Pause

OUTAGE_S = 60.0
"""How long a restart of the service may take. The job is durable and goes on after it."""
BETWEEN_S = 0.5
LEAST_S = 0.2


@dataclass(frozen=True)
class Update:
    """One reading of a job. `preview` is the newest one if the job was submitted with previews.

    trouble: the service does not answer; `state` is the last one known.
    """

    state: JobState
    preview: Preview | None = None
    trouble: ServiceError | None = None

    @property
    def fraction(self) -> float:
        """The part of the job that is done, 0..1."""
        return percent(self.state) / 100

    @property
    def text(self) -> str:
        """The progress in words: `drawing: step 7/25, about 12 s left`."""
        return "the service does not answer, waiting" if self.trouble else describe(self.state)

    def __str__(self) -> str:
        return self.text


class Watch:
    """The readings of one job until it ends.

    poll_s: seconds of each long poll. A change of status is read at once. least_s: between two readings.
    outage_s: for how long the service may not answer.
    """

    def __init__(
        self,
        state: JobState,
        *,
        poll_s: float = calls.POLL_S,
        least_s: float = LEAST_S,
        outage_s: float = OUTAGE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.state = state
        self.preview: Preview | None = None
        self.poll_s, self._least_s, self._outage_s, self._clock = poll_s, least_s, outage_s, clock
        self._silent_since: float | None = None
        self._started = False

    def next(self) -> Call[Update | None]:
        """The next reading, None after the job's last one. Raises ServiceError, for an outage only after `outage_s`."""
        if not self._started:
            self._started = True
            return Update(self.state)
        if self.state.ended:
            return None
        asked = self._clock()
        try:
            self.state = yield from calls.job(self.state.job_id, self.poll_s)
        except ServiceError as failed:
            return (yield from self._outage(failed, asked))
        self._silent_since = None
        yield from self._read_preview()
        if not self.state.ended and (spare := asked + self._least_s - self._clock()) > 0:
            yield Pause(spare)
        return Update(self.state, self.preview)

    def _outage(self, failed: ServiceError, asked: float) -> Call[Update]:
        """Wait after a reading that failed. Raises the error if it is of another kind, or the outage is too long."""
        passing = isinstance(failed, Unreachable) or failed.status in {429, 503}
        self._silent_since = self._silent_since or asked
        if not passing or self._clock() - self._silent_since > self._outage_s:
            raise failed
        yield Pause(BETWEEN_S)
        return Update(self.state, self.preview, failed)

    def _read_preview(self) -> Call[None]:
        newest = self.state.preview
        if newest is None or (self.preview and (self.preview.image, self.preview.step) == (newest.image, newest.step)):
            return
        try:
            self.preview = (yield from calls.preview(self.state)) or self.preview
        except Unreachable:
            return  # the next reading of the job reports the outage


def check_complete(state: JobState) -> None:
    """Raises JobCancelled or JobFailed, with the reason, for a job that ended without its pictures."""
    if state.status == "cancelled":
        raise JobCancelled("cancelled", "The job was cancelled.")
    if state.status == "failed":
        error = state.error
        raise JobFailed(error.code, error.detail) if error else JobFailed("internal", "The job failed.")

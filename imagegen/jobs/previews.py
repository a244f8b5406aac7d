"""Previews: the newest preview of the running job. In memory only: it goes with the job's end, and with the process."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

PREVIEW = "preview"
"""The key of `Notifier` under which a new preview is announced."""


@dataclass(frozen=True)
class StoredPreview:
    """A picture that is being drawn, as it looks after `step` steps. `data`: a JPEG file of at most 512 px a side."""

    job_id: str
    image: int  # which of the job's `n` pictures, from 1
    step: int
    steps: int  # of the picture
    data: bytes

    @property
    def etag(self) -> str:
        """A strong tag, quoted."""
        return f'"{hashlib.sha256(self.data).hexdigest()[:32]}"'


class Previews:
    """At most one preview, because at most one job runs. All calls from one event loop."""

    def __init__(self, notify: Callable[[str], None]) -> None:
        self._newest: StoredPreview | None = None
        self._notify = notify

    def put(self, preview: StoredPreview) -> None:
        """Replace the preview before it and wake the readers of events."""
        self._newest = preview
        self._notify(PREVIEW)

    def get(self, job_id: str) -> StoredPreview | None:
        """The newest preview of this job; None if it has none (yet, or any more)."""
        newest = self._newest
        return newest if newest is not None and newest.job_id == job_id else None

    def newest(self) -> StoredPreview | None:
        """The newest preview of whichever job runs."""
        return self._newest

    def drop(self, job_id: str) -> None:
        """The job has ended, or has gone back into the queue."""
        if self.get(job_id) is not None:
            self._newest = None

"""Previews: the newest preview of the running job, in memory only. The job's end removes it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

PREVIEW = "preview"
"""The key of `Notifier` under which a new preview is announced."""


@dataclass(frozen=True)
class StoredPreview:
    """A picture in progress, after `step` steps. `data`: a JPEG file of at most 512 px a side."""

    job_id: str
    image: int  # which of the job's `n` pictures, from 1
    step: int
    steps: int  # of the picture
    data: bytes

    @property
    def etag(self) -> str:
        """A strong entity tag, quoted."""
        return f'"{hashlib.sha256(self.data).hexdigest()[:32]}"'


class Previews:
    """At most one preview, because at most one job runs. All calls must come from one event loop."""

    def __init__(self, notify: Callable[[str], None]) -> None:
        self._newest: StoredPreview | None = None
        self._notify = notify

    def put(self, preview: StoredPreview) -> None:
        """Replace the previous preview and notify readers."""
        self._newest = preview
        self._notify(PREVIEW)

    def get(self, job_id: str) -> StoredPreview | None:
        """The newest preview of this job; None if there is none."""
        newest = self._newest
        return newest if newest is not None and newest.job_id == job_id else None

    def newest(self) -> StoredPreview | None:
        """The newest preview of the running job; None if there is none."""
        return self._newest

    def drop(self, job_id: str) -> None:
        """Remove the preview of a job that has ended or is queued again."""
        if self.get(job_id) is not None:
            self._newest = None

"""Per-caller state of AUTOMATIC1111's API: the chosen model, and the jobs that the caller waits for.

The state is in memory: after a restart the default model applies again. A caller is identified by its token's name.
"""

from __future__ import annotations

from imagegen.app import App
from imagegen.jobs.active import ActiveJob


class Callers:
    """State by token name (`owner`); None without tokens."""

    def __init__(self) -> None:
        self._chosen: dict[str | None, str] = {}
        self._jobs: dict[str | None, set[str]] = {}

    def choose(self, owner: str | None, model: str) -> None:
        """Set the model for the owner's next requests that do not name one."""
        self._chosen[owner] = model

    def chosen(self, owner: str | None) -> str | None:
        return self._chosen.get(owner)

    def began(self, owner: str | None, job_id: str, app: App) -> None:
        """Add a job that the owner waits for, and remove its ended jobs."""
        active = {one.id for one in app.jobs.active()}
        self._jobs[owner] = (self._jobs.get(owner, set()) & active) | {job_id}

    def current(self, owner: str | None, app: App) -> tuple[ActiveJob | None, int]:
        """The owner's running or next job, and the number of its jobs that have not ended."""
        mine = [one for one in app.jobs.active() if one.id in self._jobs.get(owner, set())]
        running = next((one for one in mine if one.running), None)
        return running or next(iter(mine), None), len(mine)

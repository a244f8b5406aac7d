"""What AUTOMATIC1111's API remembers of its callers: the model each one chose, and the jobs each one waits for.

It lasts as long as the process: a restart means the default model again. Callers are told apart by their token's name.
"""

from __future__ import annotations

from imagegen.app import App
from imagegen.jobs.active import ActiveJob


class Callers:
    """By the name of the token; None without tokens."""

    def __init__(self) -> None:
        self._chosen: dict[str | None, str] = {}
        self._jobs: dict[str | None, set[str]] = {}

    def choose(self, owner: str | None, model: str) -> None:
        """Have the owner's next requests use this model, unless they name one."""
        self._chosen[owner] = model

    def chosen(self, owner: str | None) -> str | None:
        return self._chosen.get(owner)

    def began(self, owner: str | None, job_id: str, app: App) -> None:
        """Note a job that the owner waits for; those that have ended are forgotten."""
        active = {one.id for one in app.jobs.active()}
        self._jobs[owner] = (self._jobs.get(owner, set()) & active) | {job_id}

    def current(self, owner: str | None, app: App) -> tuple[ActiveJob | None, int]:
        """The owner's job that runs or is next, and how many of its jobs have not ended."""
        mine = [one for one in app.jobs.active() if one.id in self._jobs.get(owner, set())]
        running = next((one for one in mine if one.running), None)
        return running or next(iter(mine), None), len(mine)

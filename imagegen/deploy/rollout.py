"""A new container in the old one's place: the old one drains, and is started again if the new one does not get ready.

Both work on one volume, one port and one GPU, so they never run at the same time. Whatever ends a rollout, the next
one finds out how far it came (`tidy`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from imagegen.deploy.containers import Containers, DeployError

Tell = Callable[[str], None]

HEALTHCHECK = ("python", "-m", "imagegen.healthcheck")
LOOK_EVERY_S = 1.0
SAVED = "/data/before-deploy"
SAVE = f"rm -rf {SAVED} && mkdir {SAVED} && for f in /data/jobs.sqlite3*; do [ ! -e $f ] || cp -p $f {SAVED}/; done"
RESTORE = f"rm -f /data/jobs.sqlite3* && for f in {SAVED}/jobs.sqlite3*; do [ ! -e $f ] || cp -p $f /data/; done"
"""The new service may bring the database to a form that the old one refuses: the old one gets its own back then."""


@dataclass(frozen=True)
class Rollout:
    """One container, by name. `volume`: the state folder, a volume's name or a path of the host."""

    containers: Containers
    name: str
    volume: str
    ready_timeout_s: float
    tell: Tell

    @property
    def _old(self) -> str:
        return f"{self.name}-before"

    def replace(self, image: str, options: list[str]) -> None:
        """Start `image` where the old container was, if there is one. Raises DeployError; the old one runs then.

        options: what `docker run` gets beside the name.
        """
        self.tidy()
        before = self.containers.state(self.name)
        if before is not None:
            if before.status == "running":
                self.tell("the old container drains: a running picture may finish, queued ones stay queued")
            self.containers.ask("stop", self.name)
            self.in_volume(before.image, SAVE)
            self.containers.ask("rename", self.name, self._old)
        try:
            self.tell("the new container starts")
            self.containers.ask("run", "--detach", "--name", self.name, *options, image)
            self.until_ready()
        except BaseException as failure:  # Ctrl-C too
            words = self._take_back(before is not None)
            if isinstance(failure, DeployError):
                raise DeployError(f"{failure}\n{words}") from None
            self.tell(words)
            raise
        if before is not None:
            self.containers.ask("rm", self._old)

    def until_ready(self) -> None:
        """Return once it accepts jobs. Raises DeployError, with its last words, if it ends or takes too long."""
        deadline = time.monotonic() + self.ready_timeout_s
        while True:
            state = self.containers.state(self.name)
            if state is None or state.failed:
                code = "" if state is None else f" with exit code {state.exit_code}"
                raise DeployError(f"The container {self.name} ended{code}. It said:\n{self._words()}")
            if self.is_ready():
                return
            if time.monotonic() > deadline:
                late = f"The container {self.name} was not ready after {self.ready_timeout_s:g} s"
                raise DeployError(f"{late}. It said:\n{self._words()}")
            time.sleep(LOOK_EVERY_S)

    def is_ready(self) -> bool:
        return self.containers.try_("exec", self.name, *HEALTHCHECK)

    def tidy(self) -> None:
        """Go on from where an interrupted rollout was left."""
        if self.containers.state(self._old) is None:
            return
        if self.containers.state(self.name) is not None:
            if self.is_ready():
                self.containers.ask("rm", "--force", self._old)
                return
            self.containers.ask("rm", "--force", self.name)
        self.containers.ask("rename", self._old, self.name)

    def in_volume(self, image: str, script: str) -> str:
        """Run a shell line of the image's on the state folder, with nothing else in reach; what it prints."""
        return self.containers.ask(
            "run", "--rm", "--network", "none", "--volume", f"{self.volume}:/data", "--entrypoint", "sh",
            image, "-c", script,
        )  # fmt: skip

    def _take_back(self, there_was_one: bool) -> str:
        """Remove the new container and start the old one; what became of it, in a sentence."""
        if self.containers.state(self.name) is not None:
            self.containers.ask("rm", "--force", self.name)
        if not there_was_one:
            return "It was removed. The state folder is as it left it."
        self.containers.ask("rename", self._old, self.name)
        self.containers.ask("start", self.name)
        try:
            self.until_ready()
            return "The old container runs again."
        except DeployError:
            pass
        state = self.containers.state(self.name)
        self.containers.ask("stop", self.name)
        if state is not None:
            self.in_volume(state.image, RESTORE)
        self.containers.ask("start", self.name)
        try:
            self.until_ready()
            return "The old container runs again, with the database as it was before the deploy."
        except DeployError as silent:
            return f"The old container was started again and is not well either: {silent}"

    def _words(self) -> str:
        return "\n".join(f"  {line}" for line in self.containers.last_words(self.name).splitlines())

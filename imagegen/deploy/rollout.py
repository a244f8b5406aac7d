"""Replaces the old container: drains it, starts the new one, and restarts the old one if the new one is not ready.

Both use the same volume, port and GPU, so they never run at the same time. After an interrupted rollout the next one
finds its state and continues (`tidy`).
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from imagegen.deploy.containers import Containers, DeployError, State

Tell = Callable[[str], None]

HEALTHCHECK = ("python", "-m", "imagegen.deploy.healthcheck")
LOOK_EVERY_S = 1.0
WORDS_WAIT_S = 30.0
"""Podman 4.3 shows an empty log for some seconds after its restart policy restarted a container."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

SAVED = "/data/before-deploy"
"""Copy of the old database. The new service may migrate the database to a schema that the old one refuses; a rollback
restores this copy.

It exists only during a rollout or after a killed one. Then it may be the only copy that the old service can read.
"""
SAVE = f"""\
set -e
umask 077
rm -rf {SAVED}.part
trap 'rm -rf {SAVED}.part' EXIT
mkdir {SAVED}.part
for file in /data/jobs.sqlite3*; do [ ! -e "$file" ] || cp -p "$file" {SAVED}.part/; done
rm -rf {SAVED}
mv {SAVED}.part {SAVED}
"""
SAVE_IF_THERE_IS_NONE = f"[ ! -d {SAVED} ] || exit 0\n{SAVE}"
RESTORE = f"""\
set -e
[ -d {SAVED} ] || {{ echo "there is no {SAVED}" >&2; exit 1; }}
rm -f /data/jobs.sqlite3*
for file in {SAVED}/*; do [ ! -e "$file" ] || cp -p "$file" /data/; done
"""
FORGET = ("rm", "-rf", SAVED, f"{SAVED}.part")


@dataclass(frozen=True)
class Rollout:
    """The rollout of one container. `volume`: the state folder, as a volume name or a host path."""

    containers: Containers
    name: str
    volume: str
    ready_timeout_s: float
    tell: Tell

    @property
    def _old(self) -> str:
        return f"{self.name}-before"

    def replace(self, image: str, options: list[str]) -> None:
        """Replace the old container, if there is one, with a new one from `image`.

        Raises DeployError after restarting the old one. Ctrl-C, SIGTERM and SIGHUP also restart the old one, and raise
        KeyboardInterrupt.
        options: of `docker run`, without the name.
        """
        self.tidy()
        before = self.containers.state(self.name)
        try:
            with _on_signals(signal.default_int_handler):
                if before is not None:
                    self._set_aside(before)
                self.tell("the new container starts")
                self.containers.ask("run", "--detach", "--name", self.name, *options, image)
                self.until_ready()
        except BaseException as failure:
            with _on_signals(self._ask_for_patience):
                words = self._take_back(before is not None)
            if isinstance(failure, DeployError):
                raise DeployError(f"{failure}\n{words}") from None
            self.tell(words)
            raise
        if before is not None:
            self.containers.ask("rm", self._old)
        self.containers.ask("exec", self.name, *FORGET)

    def until_ready(self) -> None:
        """Wait until the container accepts jobs. Raises DeployError with its last log lines if it ends or times out."""
        deadline = time.monotonic() + self.ready_timeout_s
        while True:
            state = self.containers.state(self.name)
            if state is None or state.failed:
                end = "ended" if state is None else state.end
                raise DeployError(f"The container {self.name} {end}. It said:\n{self._words(WORDS_WAIT_S)}")
            if self.is_ready():
                return
            if time.monotonic() > deadline:
                late = f"The container {self.name} was not ready after {self.ready_timeout_s:g} s"
                raise DeployError(f"{late}. It said:\n{self._words()}")
            time.sleep(LOOK_EVERY_S)

    def is_ready(self) -> bool:
        return self.containers.try_("exec", self.name, *HEALTHCHECK)

    def was_cut_off(self) -> bool:
        """Whether a killed rollout left the old container renamed."""
        return self.containers.state(self._old) is not None

    def tidy(self) -> None:
        """Clean up after a killed rollout: keep the new container if it is ready, else restore the old one's name."""
        if not self.was_cut_off():
            return
        if self.containers.state(self.name) is not None:
            if self.is_ready():
                self.containers.ask("rm", "--force", self._old)
                return
            self.containers.ask("rm", "--force", self.name)
        self.containers.ask("rename", self._old, self.name)

    def in_volume(self, image: str, script: str) -> str:
        """Run a shell script in `image` with access to the state folder only. Returns its output."""
        own = f"{self.name}-volume"
        try:
            return self.containers.ask(
                "run", "--rm", "--name", own, "--network", "none", "--volume", f"{self.volume}:/data",
                "--entrypoint", "sh", image, "-c", script,
            )  # fmt: skip
        except KeyboardInterrupt:  # ends the command but not its container
            self.containers.try_("rm", "--force", own)
            raise

    def _set_aside(self, before: State) -> None:
        ran = before.status == "running"
        if ran:
            self.tell("the old container drains: a running picture may finish, queued ones stay queued")
        self.containers.ask("stop", self.name)
        self.in_volume(before.image, SAVE if ran else SAVE_IF_THERE_IS_NONE)
        self.containers.ask("rename", self.name, self._old)

    def _take_back(self, there_was_one: bool) -> str:
        """Remove the new container and start the old one. Returns a sentence about the outcome."""
        try:
            aside = self.was_cut_off()
            if (aside or not there_was_one) and self.containers.state(self.name) is not None:
                self.containers.ask("rm", "--force", self.name)
            if not there_was_one:
                return "It was removed. The state folder is as it left it."
            if aside:
                self.containers.ask("rename", self._old, self.name)
            elif not self.containers.try_("stop", self.name) and self.is_ready():
                return "The old container runs on."
            # An interrupted stop continues in the container. Until it ends, a start has no effect: hence `stop` above.
            return self._start_old()
        except DeployError as worse:
            again = f"`{self.containers.name} start {self.name}`"
            return f"The old container does not run again: {worse}\nTry {again}, or deploy again."

    def _start_old(self) -> str:
        self.containers.ask("start", self.name)
        try:
            self.until_ready()
            words = "The old container runs again."
        except DeployError:
            state = self.containers.state(self.name)
            self.containers.ask("stop", self.name)
            if state is not None:
                self.in_volume(state.image, RESTORE)
            self.containers.ask("start", self.name)
            self.until_ready()
            words = "The old container runs again, with the database as it was before the deploy."
        self.containers.ask("exec", self.name, *FORGET)
        return words

    def _ask_for_patience(self, *_: object) -> None:
        with suppress(OSError):  # the terminal may be closed, which must not end the rollback
            self.tell("a moment: what was there before the deploy is put back")

    def _words(self, wait_s: float = 0.0) -> str:
        """The last lines of the container's log. wait_s: how long to wait for lines while there are none."""
        deadline = time.monotonic() + wait_s
        while not (words := self.containers.last_words(self.name)) and time.monotonic() < deadline:
            time.sleep(LOOK_EVERY_S)
        return "\n".join(f"  {line}" for line in words.splitlines())


@contextmanager
def _on_signals(handler: Callable[..., object]) -> Iterator[None]:
    """Handle SIGNALS with `handler` inside the block. An ignored signal (nohup) stays ignored."""
    before = {one: signal.getsignal(one) for one in SIGNALS}
    heard = [one for one in SIGNALS if before[one] is not signal.SIG_IGN]
    try:
        for one in heard:
            signal.signal(one, handler)
        yield
    finally:
        for one in heard:
            signal.signal(one, before[one])

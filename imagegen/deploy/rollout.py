"""A new container in the old one's place: the old one drains, and is started again if the new one does not get ready.

Both work on one volume, one port and one GPU, so they never run at the same time. Whatever ends a rollout, the next
one finds out how far it came (`tidy`).
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
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

SAVED = "/data/before-deploy"
"""The new service may bring the database to a form that the old one refuses: the old one gets this copy back then.

It is there only while a rollout goes on, or after one that was killed: then it may be the only copy that the old
service can read.
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

        So it does after Ctrl-C, SIGTERM and SIGHUP, which end this with KeyboardInterrupt.
        options: what `docker run` gets beside the name.
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

    def was_cut_off(self) -> bool:
        """A rollout was killed half-way: the old container still lies aside."""
        return self.containers.state(self._old) is not None

    def tidy(self) -> None:
        """Go on from where a rollout that was killed had come to."""
        if not self.was_cut_off():
            return
        if self.containers.state(self.name) is not None:
            if self.is_ready():
                self.containers.ask("rm", "--force", self._old)
                return
            self.containers.ask("rm", "--force", self.name)
        self.containers.ask("rename", self._old, self.name)

    def in_volume(self, image: str, script: str) -> str:
        """Run a shell script of the image's on the state folder, with nothing else in reach; what it prints."""
        own = f"{self.name}-volume"
        try:
            return self.containers.ask(
                "run", "--rm", "--name", own, "--network", "none", "--volume", f"{self.volume}:/data",
                "--entrypoint", "sh", image, "-c", script,
            )  # fmt: skip
        except KeyboardInterrupt:  # which ends the command; its container would go on
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
        """Remove the new container and start the old one; what became of it, in a sentence."""
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
            # The stop, because one that was cut off goes on in the container: until its end, a start does nothing.
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
        with suppress(OSError):  # the terminal may be gone, and what goes on here must not end with it
            self.tell("a moment: what was there before the deploy is put back")

    def _words(self) -> str:
        return "\n".join(f"  {line}" for line in self.containers.last_words(self.name).splitlines())


@contextmanager
def _on_signals(handler: Callable[..., object]) -> Iterator[None]:
    """What SIGNALS do meanwhile; one that was ignored (nohup) still is."""
    before = {one: signal.getsignal(one) for one in SIGNALS}
    heard = [one for one in SIGNALS if before[one] is not signal.SIG_IGN]
    try:
        for one in heard:
            signal.signal(one, handler)
        yield
    finally:
        for one in heard:
            signal.signal(one, before[one])

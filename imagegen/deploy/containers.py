"""Docker or Podman, whichever answers: their command line is the same but for a few words, and those are here."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Runtime = Literal["docker", "podman"]
RUNTIMES: tuple[Runtime, ...] = ("docker", "podman")
LAST_LINES = 15
HELP = re.compile(r"(run|see) '[^']*--help'", re.IGNORECASE)
"""What Docker ends its refusals with, and says nothing of the reason."""


class DeployError(Exception):
    """A step of the deployment failed; the message is a sentence for the person who asked for it."""


@dataclass(frozen=True)
class State:
    """What the runtime says of a container: `running`, `exited`, …; how it ended, how often it was started anew."""

    status: str
    exit_code: int
    restarts: int
    image: str  # its id
    started_at: str

    @property
    def failed(self) -> bool:
        """It ended, or ended and was started again by its restart policy."""
        return self.restarts > 0 or self.status in {"exited", "dead", "stopped"}


@dataclass(frozen=True)
class Containers:
    """A container runtime's command line. Its refusals are raised as DeployError, in its own words."""

    name: Runtime
    program: Path

    def ask(self, *arguments: str | Path) -> str:
        """Run a command and return what it prints on standard output."""
        done = self._run(arguments, capture=True)
        if done.returncode != 0:
            raise DeployError(f"`{self.name} {arguments[0]}` failed: {_reason(done.stderr)}")
        return done.stdout.strip()

    def try_(self, *arguments: str | Path) -> bool:
        """Run a command whose refusal is an answer, too."""
        return self._run(arguments, capture=True).returncode == 0

    def show(self, *arguments: str | Path) -> None:
        """Run a command that talks to the terminal itself."""
        done = self._run(arguments, capture=False)
        if done.returncode != 0:
            raise DeployError(f"`{self.name} {arguments[0]}` failed with exit code {done.returncode}; see above.")

    def state(self, container: str) -> State | None:
        """None if there is no such container."""
        form = "{{.State.Status}}|{{.State.ExitCode}}|{{.RestartCount}}|{{.Image}}|{{.State.StartedAt}}"
        done = self._run(("container", "inspect", "--format", form, container), capture=True)
        if done.returncode != 0:
            return None
        status, code, restarts, image, started = done.stdout.strip().split("|")
        return State(status, int(code), int(restarts), image, started)

    def last_words(self, container: str) -> str:
        """The last lines of its log, both streams."""
        done = subprocess.run(
            [self.program, "logs", "--tail", str(LAST_LINES), container],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace", check=False,
        )  # fmt: skip
        return done.stdout.strip()

    def gpu_options(self) -> list[str]:
        """What gives a container every NVIDIA GPU of the machine."""
        return ["--gpus", "all"] if self.name == "docker" else ["--device", "nvidia.com/gpu=all"]

    def format_options(self) -> list[str]:
        """What keeps a health check in a finished image: Podman writes OCI's format, which has none.

        For the last build only: what BentoML builds is in OCI's format, and Podman's cache keeps the two apart.
        """
        return ["--format", "docker"] if self.name == "podman" else []

    def _run(self, arguments: tuple[str | Path, ...], *, capture: bool) -> subprocess.CompletedProcess[str]:
        pipe = subprocess.PIPE if capture else None
        return subprocess.run(
            [self.program, *arguments],
            stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, errors="replace", check=False,
            process_group=0 if capture else None,  # the terminal's Ctrl-C is for this process, which ends its child
        )  # fmt: skip


def find(wanted: Runtime | None = None) -> Containers:
    """The runtime that is named, else Docker, else Podman where Docker is not installed.

    Raises DeployError saying why there is none. A Docker that is installed and silent is not passed over: what it
    runs and keeps, Podman does not have.
    """
    reasons = []
    for name in RUNTIMES:
        if wanted not in {None, name}:
            continue
        program = shutil.which(name)
        if program is None:
            reasons.append(f"{name} is not installed")
            continue
        found = Containers(name, Path(program))
        try:
            found.ask("version")
        except DeployError as silent:
            if wanted is None and name == "docker" and shutil.which("podman"):
                raise DeployError(
                    f"Docker is installed here and does not answer ({silent}): start its daemon. Or name Podman, which "
                    "has images, volumes and containers of its own: --runtime podman."
                ) from None
            reasons.append(str(silent))
            continue
        return found
    raise DeployError(
        f"No container runtime answers here ({'; '.join(reasons)}): install Docker or Podman, or start Docker's "
        "daemon. Without either, `imagegen serve` runs the same service."
    )


def _reason(stderr: str) -> str:
    lines = [line.rstrip() for line in stderr.splitlines() if line.strip() and not HELP.match(line.strip())]
    return "\n  ".join(lines).strip() or "it gave no reason"

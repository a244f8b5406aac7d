"""Docker or Podman. Their command lines are the same except for a few options, which this module handles."""

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
"""The last line of Docker's error messages, which gives no reason."""


class DeployError(Exception):
    """A step of the deployment failed. The message is a sentence for the operator."""


@dataclass(frozen=True)
class State:
    """A container's state. status: `running`, `exited`, … restarts: by its restart policy."""

    status: str
    exit_code: int
    restarts: int
    image: str  # its id
    started_at: str

    @property
    def failed(self) -> bool:
        """Whether it ended, or its restart policy restarted it."""
        return self.restarts > 0 or self.status in {"exited", "dead", "stopped"}

    @property
    def end(self) -> str:
        """How a container that failed ended. The exit code of one that was restarted is that of no end."""
        return "ended and was restarted" if self.restarts > 0 else f"ended with exit code {self.exit_code}"


@dataclass(frozen=True)
class Containers:
    """A container runtime's command line. A failed command raises DeployError with the runtime's message."""

    name: Runtime
    program: Path

    def ask(self, *arguments: str | Path) -> str:
        """Run a command and return its standard output."""
        done = self._run(arguments, capture=True)
        if done.returncode != 0:
            raise DeployError(f"`{self.name} {arguments[0]}` failed: {_reason(done.stderr)}")
        return done.stdout.strip()

    def try_(self, *arguments: str | Path) -> bool:
        """Run a command and return whether it succeeded."""
        return self._run(arguments, capture=True).returncode == 0

    def show(self, *arguments: str | Path) -> None:
        """Run a command with the terminal's output streams."""
        done = self._run(arguments, capture=False)
        if done.returncode != 0:
            raise DeployError(f"`{self.name} {arguments[0]}` failed with exit code {done.returncode}; see above.")

    def state(self, container: str) -> State | None:
        """The state of a container, None if it does not exist."""
        form = "{{.State.Status}}|{{.State.ExitCode}}|{{.RestartCount}}|{{.Image}}|{{.State.StartedAt}}"
        done = self._run(("container", "inspect", "--format", form, container), capture=True)
        if done.returncode != 0:
            return None
        status, code, restarts, image, started = done.stdout.strip().split("|")
        return State(status, int(code), int(restarts), image, started)

    def last_words(self, container: str) -> str:
        """The last lines of a container's log, both streams."""
        done = subprocess.run(
            [self.program, "logs", "--tail", str(LAST_LINES), container],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace", check=False,
        )  # fmt: skip
        return done.stdout.strip()

    def gpu_options(self) -> list[str]:
        """Options that give a container every NVIDIA GPU of the machine."""
        return ["--gpus", "all"] if self.name == "docker" else ["--device", "nvidia.com/gpu=all"]

    def format_options(self) -> list[str]:
        """Options that keep the health check in the final image: Podman's default, the OCI format, has none.

        Use only for the last build: BentoML builds in OCI format, and Podman caches the two formats separately.
        """
        return ["--format", "docker"] if self.name == "podman" else []

    def _run(self, arguments: tuple[str | Path, ...], *, capture: bool) -> subprocess.CompletedProcess[str]:
        pipe = subprocess.PIPE if capture else None
        return subprocess.run(
            [self.program, *arguments],
            stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, errors="replace", check=False,
            process_group=0 if capture else None,  # Ctrl-C reaches only this process, which ends its child
        )  # fmt: skip


def find(wanted: Runtime | None = None) -> Containers:
    """Find the `wanted` runtime, else Docker, else Podman if Docker is not installed.

    Raises DeployError with the reason if none is usable. An installed Docker that does not answer is an error, because
    Podman does not have Docker's containers and volumes.
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

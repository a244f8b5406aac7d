"""A deployment's files on the host, outside the code's folder: the operator's settings and the deploy token.

Existing files are never overwritten: a deploy once replaced a folder with certificates (docs/operations.md).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from imagegen.deploy.containers import DeployError, Runtime
from imagegen.engine_build.plan import Backend
from imagegen_client import places

DEFAULT_NAME = "imagegen"
ENV_TEMPLATE = """\
# Settings of the service in its container: NAME=value lines, read by each deploy. Made once; no deploy changes it.
# All settings: docs/settings.md. IMAGEGEN_HOME, IMAGEGEN_HOST and IMAGEGEN_PORT are the container's own.
# IMAGEGEN_TLS: auto where other machines are served, off on 127.0.0.1, unless it is set here.
#
# IMAGEGEN_MODEL=qwen-image-edit-2511
# IMAGEGEN_SHUTDOWN_GRACE_S=30
# HF_TOKEN=
"""


@dataclass(frozen=True)
class Choices:
    """The options of the last deploy, so that the next one needs none.

    name: the container's. host: the address of this machine on which it is published. None: not chosen. Then the volume
    gets the container's name, and the machine determines runtime and backend.
    """

    name: str = DEFAULT_NAME
    host: str = "127.0.0.1"
    port: int = 8765
    runtime: Runtime | None = None
    named_volume: str | None = None
    backend: Backend | None = None

    @property
    def volume(self) -> str:
        return self.named_volume or f"{self.name}-data"


@dataclass(frozen=True)
class Place:
    """The folder of one deployment."""

    folder: Path

    @classmethod
    def default(cls, name: str) -> Place:
        """A separate folder for each container name."""
        folder = places.here("config")
        return cls(folder if name == DEFAULT_NAME else folder / "deployments" / name)

    @property
    def env_file(self) -> Path:
        return self.folder / "imagegen.env"

    @property
    def token_file(self) -> Path:
        return self.folder / "token"

    @property
    def _choices_file(self) -> Path:
        return self.folder / "deploy.json"

    def prepare(self) -> None:
        """Create the folder and the settings file if they are missing."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self.env_file.exists():
            _write(self.env_file, ENV_TEMPLATE)

    def settings(self) -> dict[str, str]:
        """Read the settings file as a container runtime does. Empty if it is missing.

        Raises DeployError for an invalid line.
        """
        found: dict[str, str] = {}
        if not self.env_file.exists():
            return found
        for number, line in enumerate(self.env_file.read_text(encoding="utf-8").splitlines(), 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            name, equals, value = line.partition("=")
            if not equals or not name.strip().isidentifier():
                raise DeployError(f"{self.env_file}, line {number}: must be NAME=value.")
            found[name.strip()] = value
        return found

    def token(self) -> str | None:
        """The deploy token, None before the first deploy."""
        try:
            return self.token_file.read_text(encoding="ascii").strip() or None
        except FileNotFoundError:
            return None

    def keep_token(self, token: str) -> None:
        _write(self.token_file, token + "\n")

    def choices(self) -> Choices | None:
        """The last deploy's choices, None before the first one. Raises DeployError if they cannot be read."""
        try:
            kept = json.loads(self._choices_file.read_text(encoding="utf-8"))
            return Choices(**kept)
        except FileNotFoundError:
            return None
        except (ValueError, TypeError):
            raise DeployError(
                f"{self._choices_file} is damaged: remove it, and name again what is not the default: --name, "
                "--volume, --runtime, --host, --port, --backend."
            ) from None

    def keep_choices(self, choices: Choices) -> None:
        _write(self._choices_file, json.dumps(asdict(choices)) + "\n")


def grace_s(settings: Mapping[str, str]) -> float:
    """The time for a running picture to finish, from the settings file. Raises DeployError."""
    given = settings.get("IMAGEGEN_SHUTDOWN_GRACE_S", "30")
    try:
        return float(given)
    except ValueError:
        raise DeployError(f"IMAGEGEN_SHUTDOWN_GRACE_S={given} is not a number of seconds.") from None


def _write(file: Path, text: str) -> None:
    """Write the file atomically, readable by its owner only, because it may contain a secret."""
    whole = file.with_name(f".{file.name}.{os.getpid()}")
    whole.unlink(missing_ok=True)
    with os.fdopen(os.open(whole, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    whole.replace(file)

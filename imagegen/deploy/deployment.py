"""One deployment: its folder, the operator's choices and the container's options."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from imagegen.deploy.containers import Containers, DeployError
from imagegen.deploy.host_config import Choices, Place, grace_s
from imagegen.deploy.rollout import Rollout, Tell
from imagegen.engine_build.cards import Cards
from imagegen.engine_build.plan import Backend
from imagegen.security.tls import own_addresses

PORT_INSIDE = 8765
STOP_MARGIN_S = 30
"""Time that a stop may take after the running picture, for open responses and the engine's exit."""


@dataclass(frozen=True)
class Deployment:
    """The deployment that every deploy command works on."""

    containers: Containers
    place: Place
    choices: Choices

    @property
    def name(self) -> str:
        return self.choices.name

    @property
    def volume(self) -> str:
        return self.choices.volume

    @property
    def beyond_loopback(self) -> bool:
        """Whether other machines can reach it."""
        return not ipaddress.ip_address(self.choices.host).is_loopback

    @property
    def tls(self) -> str:
        """The container's IMAGEGEN_TLS: from the settings file, else HTTPS if other machines can reach it."""
        chosen = self.place.settings().get("IMAGEGEN_TLS", "").strip()
        return chosen or ("auto" if self.beyond_loopback else "off")

    def rollout(self, tell: Tell, ready_timeout_s: float = 0) -> Rollout:
        return Rollout(self.containers, self.name, self.volume, ready_timeout_s, tell)

    def check(self) -> None:
        """Check everything possible before the old container stops. Raises DeployError."""
        grace_s(self.place.settings())
        if self.beyond_loopback and self.tls.lower() == "off":
            raise DeployError(
                f"{self.place.env_file} says IMAGEGEN_TLS=off, and on {self.choices.host} tokens and pictures would "
                "cross the network unencrypted. Remove that line for HTTPS, or publish on this machine alone, behind "
                "a proxy that has a certificate: --host 127.0.0.1."
            )

    def run_options(self, backend: Backend, cards: Cards) -> list[str]:
        """The options of `docker run`, without the container's name and the image. cards: this machine's GPUs."""
        choices, settings = self.choices, self.place.settings()
        host = f"[{choices.host}]" if ":" in choices.host else choices.host
        options = [
            *("--hostname", socket.gethostname()),  # its name for browsers and in the certificate
            *("--publish", f"{host}:{choices.port}:{PORT_INSIDE}"),
            *("--volume", f"{self.volume}:/data"),
            *("--env-file", str(self.place.env_file)),
            *("--env", "IMAGEGEN_HOME=/data", "--env", "IMAGEGEN_HOST=0.0.0.0"),
            *("--env", f"IMAGEGEN_PORT={PORT_INSIDE}", "--env", f"IMAGEGEN_TLS={self.tls}"),
            *("--restart", "unless-stopped", "--stop-timeout", str(int(grace_s(settings)) + STOP_MARGIN_S)),
            *("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),  # noqa: S108
        ]
        if self.beyond_loopback:
            # A container does not see its host's addresses.
            names = [*settings.get("IMAGEGEN_ALLOWED_HOSTS", "").split(","), *own_addresses()]
            options += ["--env", f"IMAGEGEN_ALLOWED_HOSTS={','.join(name for name in names if name)}"]
        if backend == "cuda" and (cards.found or not _may_draw_on_cpu(settings)):
            options += self.containers.gpu_options()
        return options

    def make_token(self, image: str, tell: Tell) -> None:
        """Ensure that deploys have a token that the volume accepts, unless IMAGEGEN_TOKENS sets the tokens.

        The service's command creates it. The volume stores only its SHA-256.
        """
        if "IMAGEGEN_TOKENS" in self.place.settings():
            return
        token = self.place.token()
        if token is not None:
            known = self.rollout(tell).in_volume(image, "[ ! -e /data/tokens ] || cat /data/tokens")
            if hashlib.sha256(token.encode()).hexdigest() in known:
                return
            tell(f"the volume {self.volume} does not know the token of the last deploy: a new one is made")
        name = f"deploy-{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}"
        self.place.keep_token(
            self.containers.ask(
                "run", "--rm", "--network", "none", "--volume", f"{self.volume}:/data", image, "imagegen", "token",
                "new", name,
            )
        )  # fmt: skip


def _may_draw_on_cpu(settings: Mapping[str, str]) -> bool:
    return settings.get("IMAGEGEN_ON_MISSING_GPU", "").strip() == "cpu"

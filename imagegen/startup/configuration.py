"""Reads and checks the configuration before the service listens: settings, tokens, certificate, limits, names."""

from __future__ import annotations

from dataclasses import dataclass

from imagegen import config_file, engine_build, settings
from imagegen.hardware import gpu
from imagegen.models.aliases import Aliases
from imagegen.models.catalog import Catalog
from imagegen.models.entry import Entry
from imagegen.models.entry_files import CatalogError
from imagegen.models.packages import torch_uses_cuda
from imagegen.prompts.guardrails import Guardrails, PolicyError
from imagegen.security import proxies, tls, tokens
from imagegen.security.hosts import Hosts
from imagegen.security.origins import Origins
from imagegen.security.webhook_targets import Targets
from imagegen.settings import Settings
from imagegen.startup import port as listening
from imagegen.storage import descriptors, postgres_look
from imagegen.storage.database import lock_state_folder
from imagegen.storage.errors import StateError, StorageError


@dataclass(frozen=True)
class Configuration:
    """The configuration of the service.

    connections: the limit of open connections. tokens, certificate and public are None if not configured.
    """

    settings: Settings
    tokens: tokens.Tokens | None
    certificate: tls.Files | None
    connections: int
    public: proxies.PublicAddress | None
    proxies: proxies.Proxies
    hosts: Hosts
    origins: Origins

    @property
    def is_open(self) -> bool:
        """Whether the service accepts requests from other machines."""
        return self.tokens is not None or self.settings.allow_anonymous


def read() -> Configuration:
    """Read the settings and the files that they name, and increase this process's limit of open files.

    Raises SettingsError with a sentence.
    """
    chosen = settings.load()
    public = proxies.public_url(chosen.public_url)
    Targets.of(chosen)
    return Configuration(
        chosen,
        tokens.for_service(chosen),
        tls.files_of(chosen),
        descriptors.connections_allowed(chosen, descriptors.raise_limit()),
        public,
        proxies.Proxies(chosen.trusted_proxies.split(",")),
        Hosts(chosen.allowed_hosts.split(","), public.host if public else None),
        Origins(chosen.cors_origins),
    )


def check(configured: Configuration, host: str, port: int) -> Entry:
    """Check what the service needs before it listens: port, state folder, database, policy, catalog and GPU.

    Makes the state folder. Returns the default model. Raises one of SENTENCES.
    """
    chosen = configured.settings
    listening.check(host, port)
    lock_state_folder(chosen.home).close()
    if chosen.database_url is not None:
        postgres_look.check(chosen.database_url)
    Guardrails.load(chosen.policy_file)
    catalog = Catalog.offered(chosen)
    entry = catalog.default(chosen, has_gpu=gpu.is_card(gpu.read(chosen)))
    Aliases(chosen.model_aliases, catalog.names(), entry.name)
    engine_build.require_gpu(chosen, torch_uses_cuda() if entry.adapter == "glm" else None)
    return entry


SENTENCES = (
    settings.SettingsError,
    engine_build.EngineMissing,
    StateError,
    StorageError,
    CatalogError,
    PolicyError,
)


def sentence(failure: BaseException) -> str | None:
    """Why the service cannot start, as a sentence for the user; None for an internal error."""
    if isinstance(failure, SENTENCES):
        return config_file.located(str(failure))
    if isinstance(failure, OSError) and failure.strerror:
        where = f"{failure.filename} cannot be used: " if failure.filename else ""
        return f"{where}{failure.strerror}."
    return None

"""All settings of the service in one class."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from imagegen import setting_values as values
from imagegen.config_file import ADDRESS, PATHS, PREFIX
from imagegen.settings.access import Access, Webhooks
from imagegen.settings.engine import Engine
from imagegen.settings.limits import Limits
from imagegen.settings.network import Network
from imagegen.settings.pictures import Provenance, Retention
from imagegen.settings.prompts import Prompts
from imagegen.settings.state import State


class Settings(Webhooks, Access, Prompts, Provenance, Retention, Limits, Engine, Network, State, BaseSettings):
    """What an operator can set. Sizes in bytes or pixels, times in seconds, as the names say.

    pydantic takes the fields of the last base first: `State` begins, as in docs/settings.md.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"], Field(description="DEBUG adds the engine's own lines.")
    ] = "INFO"

    @field_validator(*sorted(PATHS - ADDRESS), mode="before")
    @classmethod
    def _absolute(cls, value: str | Path | None) -> Path | None:
        return None if value is None else values.absolute(value)

    @model_validator(mode="after")
    def _ordered(self) -> Settings:
        """The first of each pair must not be above the second. The error names the one that was set."""
        for low, high in (("idle_min_s", "idle_max_s"), ("max_body_bytes", "max_bodies_bytes")):
            if getattr(self, high) >= getattr(self, low):
                continue
            least, most = self._assignment(low), self._assignment(high)
            if high in self.model_fields_set:
                raise ValueError(f"{most}: must not be below {least}")
            raise ValueError(f"{least}: must not be above {most}, which holds unless you set it: raise that too")
        return self

    @model_validator(mode="after")
    def _whole_certificate(self) -> Settings:
        for given, other in (("provenance_cert", "provenance_key"), ("provenance_key", "provenance_cert")):
            if getattr(self, given) is not None and getattr(self, other) is None:
                needed = f"{PREFIX}{other.upper()} is needed too, a certificate and its key belong together"
                raise ValueError(f"{PREFIX}{given.upper()}: {needed}")
        return self

    def _assignment(self, name: str) -> str:
        value = getattr(self, name)
        return f"{PREFIX}{name.upper()}={f'{value:g}' if isinstance(value, float) else value}"

    @property
    def url(self) -> str:
        """Where the service answers, as a client on this machine would type it."""
        host = "127.0.0.1" if self.host in {"0.0.0.0", "::"} else self.host  # noqa: S104 - compared, not bound
        scheme = "http" if self.tls == "off" else "https"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"

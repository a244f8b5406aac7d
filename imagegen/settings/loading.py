"""Reads the settings from the environment and `imagegen.toml`, and checks them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from imagegen import config_file
from imagegen.config_file import PREFIX, ConfigFile
from imagegen.setting_values import SettingsError
from imagegen.settings.settings import Settings

FRONT_ONLY = {
    *("URL", "TOKEN", "TLS_SHA256", "TLS_CA", "OUTPUT_DIR", "TEST_REQUIRE"),
    *("MCP_WAIT_S", "MCP_PORT", "MCP_HOST", "MCP_TLS", "MCP_ALLOWED_HOSTS", "MCP_PUBLIC_URL", "MCP_WARM", "MCP_ROOTS"),
    *("MCP_FRONT_URL", "MCP_AUTH_SERVER"),
}
"""Variables of the MCP front and of the tests: known here so that only a misspelt one is reported as unknown."""


def load() -> Settings:
    """Read the settings file and the environment, which overrides it.

    Raises SettingsError with one line per wrong setting.
    """
    return Loaded.now().settings


@dataclass(frozen=True)
class Loaded:
    """The settings, and where each one comes from."""

    settings: Settings
    file: ConfigFile

    @classmethod
    def now(cls) -> Loaded:
        """Raises SettingsError with one line per wrong setting."""
        problems = []
        try:
            file = config_file.read({*Settings.model_fields, *config_file.ADDRESS})
        except SettingsError as wrong:
            file, problems = ConfigFile(), str(wrong).splitlines()
        known = {name.upper() for name in Settings.model_fields} | FRONT_ONLY | {"CONFIG"}
        unknown = sorted(v for v in os.environ if v.startswith(PREFIX) and v.removeprefix(PREFIX) not in known)
        problems += [f"{name} is not a setting: see docs/settings.md for the list" for name in unknown]
        of_file: dict[str, Any] = {  # text, as in the environment
            name: text
            for name, text in file.values.items()
            if name in Settings.model_fields and not config_file.is_set(name)
        }
        try:
            settings = Settings(**of_file)
        except ValidationError as invalid:
            for error in invalid.errors():
                said = error["msg"].removeprefix("Value error, ")
                if not error["loc"]:  # of two settings together: it names them itself
                    problems.append(config_file.located(said))
                    continue
                name = str(error["loc"][0])
                value = "(hidden)" if name in config_file.SECRETS else repr(error["input"])
                where = f"{file.where(name)}: {name} = " if name in of_file else f"{PREFIX}{name.upper()}="
                problems.append(f"{where}{value}: {said}")
            raise SettingsError("\n".join(problems)) from None
        if problems:
            raise SettingsError("\n".join(problems))
        return cls(settings, file)

    def source(self, name: str) -> str:
        """`environment`, `file` or `default`."""
        if config_file.is_set(name):
            return "environment"
        return "file" if name in self.file.values else "default"

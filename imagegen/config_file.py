"""`imagegen.toml`: settings in a file, under the names of the environment variables, in lower case without the prefix.

Imports no pydantic: the command line reads an address and a token from the file too, and must start fast. The values
are text, as in the environment, so that `settings` checks both in the same way.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from imagegen.setting_values import SettingsError
from imagegen_client import places

PREFIX = "IMAGEGEN_"
NAME = "imagegen.toml"
VARIABLE = f"{PREFIX}CONFIG"
"""Names the file. Empty: no file is read."""

SECRETS = frozenset({"token", "tokens", "database_url", "webhook_url", "webhook_secret"})
"""Settings whose values no message, list or log shows."""
ADDRESS = frozenset({"url", "token", "tls_sha256", "tls_ca"})
"""Settings of the command line, as a client; the service does not use them."""
PATHS = frozenset(
    {
        *("home", "cache", "sd_server", "policy_file", "templates_dir", "provenance_cert", "provenance_key"),
        "tls_ca",
    }
)
MAX_BYTES = 1024 * 1024


@dataclass(frozen=True)
class ConfigFile:
    """The settings of a file. path: None without a file. The repr omits the values, as some are secrets."""

    path: Path | None = None
    values: Mapping[str, str] = field(default_factory=dict, repr=False)
    lines: Mapping[str, int] = field(default_factory=dict)

    def where(self, name: str) -> str:
        """The place of a setting, for a message."""
        return f"{self.path}, line {self.lines[name]}"

    def get(self, name: str) -> str | None:
        """A setting that the environment overrides: its variable if that is set, else the file's value."""
        value = of_environment(name)
        return self.values.get(name) if value is None else value


def find() -> Path | None:
    """The file that IMAGEGEN_CONFIG names, else the first `imagegen.toml` of the user's and the machine's folder.

    Raises SettingsError if the named file does not exist.
    """
    named = os.environ.get(VARIABLE)
    if named is None:
        candidates = [folder / NAME for folder in places.settings_folders()]
        return next((path for path in candidates if os.path.lexists(path)), None)
    if not named.strip():
        return None
    path = Path(os.path.expanduser(named)).absolute()  # noqa: PTH111 - no error for an unknown user
    if not os.path.lexists(path):
        raise SettingsError(f"{VARIABLE}={named}: there is no such file. Unset it, or leave it empty for no file.")
    return path


def read(known: Collection[str] | None = None) -> ConfigFile:
    """The file's settings; empty without a file. `known`: the names that it may have; None: any.

    Raises SettingsError, with one line for each problem: file, line and name.
    """
    path = find()
    if path is None:
        return ConfigFile()
    text, mode = _text(path)
    try:
        entries = tomllib.loads(text)
    except tomllib.TOMLDecodeError as wrong:
        raise SettingsError(f"{path} is not TOML: {wrong}.") from None
    lines = {name: _line_of(name, text) for name in entries}
    found = ConfigFile(path, {name: _as_text(value) or "" for name, value in entries.items()}, lines)
    problems = [
        f"{found.where(name)}: {problem}"
        for name, value in entries.items()
        if (problem := _problem(name, value, known)) is not None
    ]
    if problems:
        raise SettingsError("\n".join(problems))
    secret = next((name for name in found.values if name in SECRETS and not found.values[name].startswith("@")), None)
    if secret is not None and os.name == "posix" and mode & stat.S_IRWXO:
        raise SettingsError(
            f"{found.where(secret)}: {secret} is a secret, and every user of this machine may use the file: "
            f"run `chmod o= {path}`"
        )
    return found


def located(sentence: str) -> str:
    """The sentence, and where the file sets the settings whose variables it names."""
    try:
        file = read()
    except SettingsError:
        return sentence
    named = dict.fromkeys(name.lower() for name in re.findall(rf"\b{PREFIX}([A-Z0-9_]+)", sentence))
    of_file = [name for name in named if name in file.values and not is_set(name) and file.where(name) not in sentence]
    set_at = "; ".join(f"{name} in {file.where(name)}" for name in of_file)
    return f"{sentence.rstrip()} (Set: {set_at}.)" if set_at else sentence


def of_environment(name: str) -> str | None:
    """The value of a setting's variable; None if it is not set. The case of its name does not count, as in pydantic."""
    variables = (value for variable, value in os.environ.items() if variable.upper() == PREFIX + name.upper())
    return next(variables, None)


def is_set(name: str) -> bool:
    """Whether the environment sets it."""
    return of_environment(name) is not None


def _text(path: Path) -> tuple[str, int]:
    """The file's text and its mode."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise SettingsError(f"{path} is not a file.")
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise SettingsError(f"{path} has more than {MAX_BYTES:,} bytes: it holds no settings.")
        return data.decode("utf-8"), mode
    except OSError as failure:
        none = f"To read no file, set {VARIABLE} to an empty text."
        raise SettingsError(f"{path} cannot be read: {failure.strerror}. {none}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path} is not UTF-8 text.") from None


def _line_of(name: str, text: str) -> int:
    """The line that sets a top-level name: the first one that looks so and does not lie within a longer value."""
    wanted = re.compile(rf"\s*(\[+\s*)?[\"']?{re.escape(name)}[\"']?\s*[=.\]]")
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        if wanted.match(line) and _is_whole("\n".join(lines[: number - 1])):
            return number
    return 1


def _is_whole(text: str) -> bool:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    return True


def _as_text(value: object) -> str | None:
    """The value as an environment variable would have it; None for lists, tables and times."""
    if isinstance(value, bool):
        return "1" if value else "0"
    return str(value) if isinstance(value, str | int | float) else None


def _problem(name: str, value: object, known: Collection[str] | None) -> str | None:
    if known is not None and name not in known:
        meant = name.lower().removeprefix(PREFIX.lower())
        remedy = f"write {meant}" if meant in known else "see docs/settings.md for the list"
        return f"{name} is not a setting: {remedy}"
    if _as_text(value) is None:
        kind = "a list" if isinstance(value, list) else "a table" if isinstance(value, dict) else "a date or time"
        return f"{name} must be a text, a number, true or false, not {kind}"
    if (path := _relative(name, str(value))) is not None:
        return f"{name} has the relative path {path!r}, which another folder would change: write the full path"
    return None


def _relative(name: str, text: str) -> str | None:
    """The first relative path in a value; None if there is none."""
    paths = [text] if name in PATHS else []
    if name == "tls" and "," in text:
        paths = text.split(",")
    if name == "tokens" and text.startswith("@"):
        paths = [text[1:]]
    return next((path for path in paths if path.strip() and not path.strip().startswith(("/", "~"))), None)

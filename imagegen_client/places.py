"""Folders and file names as each operating system has them: settings, data, cache, pictures, reserved names.

Pure functions of the system's name (`sys.platform`), the environment and the home folder, so that the rules of Windows
and macOS are tested anywhere; `here` applies them to this machine.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Literal

NAME = "imagegen"
Kind = Literal["config", "data", "cache"]

_XDG = {
    "config": ("XDG_CONFIG_HOME", ".config"),
    "data": ("XDG_DATA_HOME", ".local/share"),
    "cache": ("XDG_CACHE_HOME", ".cache"),
}
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f]')
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *", re.IGNORECASE)
"""Names of devices on Windows, with any extension (learn.microsoft.com, Naming Files, Paths, and Namespaces)."""


def user_folder(kind: Kind, system: str, environ: Mapping[str, str], home: str) -> PurePath:
    """The user's folder for this project: by XDG's rules, in ~/Library on macOS, in %LOCALAPPDATA% on Windows."""
    if system == "win32":
        local = environ.get("LOCALAPPDATA", "").strip()
        folder = PureWindowsPath(local or PureWindowsPath(home, "AppData", "Local")) / NAME
        return folder / "Cache" if kind == "cache" else folder
    if system == "darwin":
        return PurePosixPath(home, "Library", "Caches" if kind == "cache" else "Application Support", NAME)
    variable, usual = _XDG[kind]
    named = environ.get(variable, "").strip()
    return PurePosixPath(named) / NAME if named.startswith("/") else PurePosixPath(home, usual, NAME)


def machine_folder(system: str, environ: Mapping[str, str]) -> PurePath:
    """The folder with the settings of all users of a machine."""
    if system == "win32":
        return PureWindowsPath(environ.get("PROGRAMDATA", "").strip() or r"C:\ProgramData") / NAME
    return PurePosixPath("/Library/Application Support" if system == "darwin" else "/etc") / NAME


def pictures_folders(system: str, home: str | None, temporary: str, user_id: int | None) -> list[PurePath]:
    """Where pictures are saved, the first usable one: the user's pictures, else the folder of temporary files.

    home: None if it is unknown. user_id: of the user, in the name of a folder that all users may make.
    """
    make = PureWindowsPath if system == "win32" else PurePosixPath
    usual: list[PurePath] = [] if home is None else [make(home, "Pictures", NAME)]
    return [*usual, make(temporary, NAME if user_id is None else f"{NAME}-{user_id}")]


def portable_name(name: str) -> str:
    """A file name that every system can have: without forbidden characters, trailing dots and names of devices."""
    kept = _FORBIDDEN.sub("-", name).rstrip(". ") or "-"
    stem, dot, rest = kept.partition(".")
    return f"{stem.rstrip()}_{dot}{rest}" if _RESERVED.fullmatch(stem) else kept


def here(kind: Kind) -> Path:
    """This user's folder on this machine."""
    return Path(user_folder(kind, sys.platform, os.environ, os.path.expanduser("~")))  # noqa: PTH111 - no error without a home


def settings_folders() -> list[Path]:
    """The folders in which a settings file is looked for, in this order: the user's, the machine's."""
    return [here("config"), Path(machine_folder(sys.platform, os.environ))]

"""Which local pictures may be sent to the service: those in the folders that the person opened, and no secrets. Pure,
but for the names of folders that symlinks lead to.

An agent that reads web pages can be told by one to send a private photo. So a file outside these folders is sent only
if the person says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mcp_front.saving import usual_folders
from mcp_front.settings import Settings

SECRET_FOLDERS = frozenset(
    {
        ".ssh",
        ".gnupg",
        ".aws",
        ".azure",
        ".kube",
        ".docker",
        ".gcloud",
        "gcloud",
        ".password-store",
        ".mozilla",
        ".thunderbird",
        "keyrings",
        "keychains",
        ".vault",
        ".1password",
    }
)
"""Folders of keys and passwords, by their names in lower case: never read, whoever asks."""

SYSTEM_FOLDERS = tuple(Path(folder) for folder in ("/proc", "/sys", "/dev", "/etc", "/private/etc", "/boot"))


def is_secret(path: Path) -> bool:
    """Whether a file lies where keys, passwords or the system's own files are. `path`: without symlinks."""
    named = {part.lower() for part in path.parts[:-1]}
    return bool(named & SECRET_FOLDERS) or any(path.is_relative_to(folder) for folder in SYSTEM_FOLDERS)


def is_inside(path: Path, folders: Iterable[Path]) -> bool:
    """Whether a file lies in one of the folders. `path`: without symlinks; those of the folders are resolved."""
    return any(path.is_relative_to(_resolved(folder)) for folder in folders)


def open_folders(settings: Settings, working: Path) -> list[Path]:
    """The folders that are open without a question: IMAGEGEN_MCP_ROOTS, else the working directory; and that of
    saved pictures."""
    saved = [settings.output_dir] if settings.output_dir else list(usual_folders())
    return [*(settings.roots if settings.roots is not None else narrow([working])), *saved]


def narrow(folders: Iterable[Path]) -> list[Path]:
    """The folders that are not as good as everything: a program that is started in / or in the home folder is not at
    work there."""
    home = _resolved(Path.home())
    return [folder for folder in folders if not home.is_relative_to(_resolved(folder))]


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # symlinks in a circle: a folder that holds nothing
        return path

"""Which local pictures may be sent to the service: those in the folders that the user opened, except secrets.

Pure functions, except that symlinks of folders are resolved. A web page that an agent reads can instruct it to send a
private photo. So a file outside these folders is sent only if the user agrees.
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
"""Lower-case names of folders with keys and passwords. Their files are never read."""

SYSTEM_FOLDERS = tuple(Path(folder) for folder in ("/proc", "/sys", "/dev", "/etc", "/private/etc", "/boot"))


def is_secret(path: Path) -> bool:
    """Whether a file is in a folder of keys, passwords or system files. `path` has its symlinks resolved."""
    named = {part.lower() for part in path.parts[:-1]}
    return bool(named & SECRET_FOLDERS) or any(path.is_relative_to(folder) for folder in SYSTEM_FOLDERS)


def is_inside(path: Path, folders: Iterable[Path]) -> bool:
    """Whether a file is in one of the folders. `path` has its symlinks resolved; `folders` may have symlinks."""
    return any(path.is_relative_to(_resolved(folder)) for folder in folders)


def open_folders(settings: Settings, working: Path) -> list[Path]:
    """The folders whose pictures are sent without asking the user: IMAGEGEN_MCP_ROOTS or else the working directory,
    and the folder of saved pictures."""
    saved = [settings.output_dir] if settings.output_dir else list(usual_folders())
    return [*(settings.roots if settings.roots is not None else narrow([working])), *saved]


def narrow(folders: Iterable[Path]) -> list[Path]:
    """The folders without / and the home folder, which would open nearly every file. A program that starts there does
    not have its work there."""
    home = _resolved(Path.home())
    return [folder for folder in folders if not home.is_relative_to(_resolved(folder))]


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # a symlink loop: the folder contains nothing
        return path

"""The additional Python packages that an engine needs, and how to install them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from imagegen.models.entry import Entry
from imagegen.settings import Settings

PACKAGES = {"glm": ("torch", "diffusers", "transformers", "accelerate")}
"""By adapter: the packages of `pip install 'imagegen[NAME]'` (pyproject.toml has the versions)."""


def lacking(adapter: str) -> tuple[str, ...]:
    """The packages of `adapter` that are not installed in this environment. Imports none of them."""
    return tuple(name for name in PACKAGES.get(adapter, ()) if find_spec(name) is None)


def usable(entry: Entry, settings: Settings) -> bool:
    """Whether the packages and the files of `entry` are installed. Files that a script makes count as installed."""
    return not lacking(entry.adapter) and (entry.made_by is not None or entry.installed(settings))


def lacking_sentence(entry: Entry) -> str | None:
    """A sentence with the missing packages of `entry`'s engine and how to install them. None if none is missing."""
    names = lacking(entry.adapter)
    if not names:
        return None
    are, them = ("is", "it") if len(names) == 1 else ("are", "them")
    return (
        f"{entry.name} is drawn by another engine than the other models, and of that engine's Python packages "
        f"{', '.join(names)} {are} not installed. Install {them} where the service is: "
        f"{how_to_install(entry.adapter)}. Which torch to take first: docs/engine.md. Then start the service again."
    )


def how_to_install(adapter: str) -> str:
    """The commands that install the extra of `adapter`, as part of a sentence."""
    extra = f"imagegen[{adapter}]"
    return f"make {adapter} in a clone, else pip install '{extra}' in the Python environment that the service runs in"


def torch_uses_cuda() -> bool:
    """Whether the installed torch is a CUDA build. Looks for its CUDA library and does not import torch."""
    torch = find_spec("torch")
    folders = () if torch is None else torch.submodule_search_locations or ()
    return any((Path(folder) / "lib" / "libtorch_cuda.so").is_file() for folder in folders)

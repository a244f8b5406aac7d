"""Entries from their files: the package's TOML files and the user's, with what an entry inherits from its `base`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from imagegen.models.entry import Entry
from imagegen.models.entry_errors import explain
from imagegen.models.weights import Upscaler

NOT_INHERITED = {"made_by", "download_bytes", "memory"}
"""Fields that an entry does not inherit from its `base`, because they describe the base as a whole."""


class CatalogError(Exception):
    """An entry's file is invalid. The message names the file, the field and the allowed values."""


@dataclass(frozen=True)
class EntryFile:
    """One parsed TOML file. `label`: its name in messages. `own`: whether it is the user's file."""

    label: str
    own: bool
    data: dict[str, Any]


def read_package() -> dict[str, EntryFile]:
    """The package's files by the entry's name. Raises CatalogError for a file that is not TOML."""
    found = {}
    for resource in (package_files("imagegen.models") / "entries").iterdir():
        if resource.name.endswith(".toml"):
            name = resource.name.removesuffix(".toml")
            found[name] = EntryFile(resource.name, False, _parse(resource.name, resource.read_bytes()))
    return found


def read_folder(folder: Path) -> dict[str, EntryFile]:
    """The user's files in `folder` by the entry's name.

    Raises CatalogError for a file that is not TOML or cannot be read, and for two files of one name.
    """
    found: dict[str, EntryFile] = {}
    for path in sorted(folder.glob("*.toml")):
        try:
            data = _parse(str(path), path.read_bytes())
        except OSError as error:
            raise CatalogError(f"{path}: cannot be read: {error.strerror}") from None
        name = data.get("name", path.stem)
        if not isinstance(name, str):
            raise CatalogError(f"{path}: name: must be a text, not {name!r}")
        if name in found:
            raise CatalogError(f"{path}: name: {name!r} is taken by {found[name].label}; names must differ")
        found[name] = EntryFile(str(path), True, _with_sources(data, f"your file {path.name}"))
    return found


def _with_sources(data: dict[str, Any], source: str) -> dict[str, Any]:
    """Add the sources that a user's file may omit. A plain value such as `steps = 20` becomes a table."""

    def sourced(value: Any) -> Any:
        return {"source": source, **(value if isinstance(value, dict) else {"value": value})}

    told = dict(data)
    if isinstance(data.get("defaults"), dict):
        told["defaults"] = {key: sourced(value) for key, value in data["defaults"].items()}
    if isinstance(data.get("flags"), list):
        told["flags"] = [sourced(flag) if isinstance(flag, dict) else flag for flag in data["flags"]]
    if isinstance(data.get("fast"), dict) and "refused" not in data["fast"]:
        told["fast"] = {"source": source, **data["fast"]}
    if isinstance(data.get("memory"), dict):
        told["memory"] = sourced(data["memory"])
    if "download_bytes" in data:
        told["download_bytes"] = sourced(data["download_bytes"])
    return told


def _parse(label: str, raw: bytes) -> dict[str, Any]:
    try:
        return tomllib.loads(raw.decode())
    except UnicodeDecodeError as error:
        raise CatalogError(f"{label}: byte {error.start}: not UTF-8, which TOML files must be") from None
    except tomllib.TOMLDecodeError as error:
        raise CatalogError(f"{label}: not a TOML file: {error}") from None


class Resolver:
    """Turns files into entries and resolves `base`."""

    def __init__(self, ours: Mapping[str, EntryFile], theirs: Mapping[str, EntryFile]) -> None:
        self._ours, self._theirs = ours, theirs

    def entry(self, name: str) -> Entry | Upscaler:
        """Validate the entry called `name`. Raises CatalogError."""
        return self._resolve(name, self._theirs.get(name) or self._ours[name], ())[0]

    def _resolve(self, name: str, file: EntryFile, above: tuple[str, ...]) -> tuple[Entry | Upscaler, dict[str, Any]]:
        """The entry and its merged data. `above`: labels of the files that inherit from this one."""
        data = {"name": name, **file.data}
        base = data.pop("base", None)
        if base is not None:
            data = self._inherit(base, file, data, above)
        kind = Upscaler if data.get("adapter") == "esrgan" else Entry
        try:
            return kind.model_validate(data), data
        except ValidationError as invalid:
            lines = [f"{file.label}: {explain(error, kind)}" for error in invalid.errors()]
            raise CatalogError("\n".join(lines)) from None

    def _inherit(self, base: Any, file: EntryFile, data: dict[str, Any], above: tuple[str, ...]) -> dict[str, Any]:
        parent = self._parent(base, file, data["name"])
        if parent is None or parent is file:
            known = ", ".join(sorted({*self._ours, *self._theirs} - {data["name"]}))
            raise CatalogError(f"{file.label}: base: must be one of {known}, not {base!r}")
        if parent.label in above:
            raise CatalogError(f"{file.label}: base: {base!r} is itself built on this entry")
        entry, inherited = self._resolve(base, parent, (*above, file.label))
        place = str(entry.own_folder or base)
        inherited = {k: v for k, v in inherited.items() if k != "folder"}
        if base != data["name"]:
            inherited = {k: v for k, v in inherited.items() if k not in NOT_INHERITED}
        return _overlay(inherited, data, place)

    def _parent(self, base: Any, file: EntryFile, name: Any) -> EntryFile | None:
        if not isinstance(base, str):
            return None
        if file.own and base == name:  # a user's file may inherit from the entry that it replaces
            return self._ours.get(base)
        return self._theirs.get(base) or self._ours.get(base)


def _overlay(base: dict[str, Any], own: dict[str, Any], place: str) -> dict[str, Any]:
    """Merge `own` over `base`: tables by key, files by role, flags by flag. The base's files stay in folder `place`."""
    merged = {**base, **own}
    for table in ("defaults", "options"):
        if isinstance(own.get(table), dict) and isinstance(base.get(table), dict):
            merged[table] = {**base[table], **own[table]}
    inherited = [{"shared": place, **f} for f in base.get("files", [])]
    merged["files"] = _overlay_list(inherited, own.get("files", []), "role")
    if "flags" in merged:
        merged["flags"] = _overlay_list(base.get("flags", []), own.get("flags", []), "flag")
    return merged


def _overlay_list(base: Any, own: Any, key: str) -> Any:
    if not (isinstance(own, list) and all(isinstance(item, dict) for item in [*base, *own])):
        return own  # wrong type: validation reports it
    taken = {item.get(key) for item in own}
    return [item for item in base if item.get(key) not in taken] + own

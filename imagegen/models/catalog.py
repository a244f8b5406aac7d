"""The catalog: the package's entries and the user's entries from the models folder.

An entry is one TOML file, `NAME.toml`. A user's file replaces the package's entry of the same name.
`base = "NAME"` inherits from an existing entry.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from imagegen.models.download.hub import is_offline
from imagegen.models.entry import Entry
from imagegen.models.weights import Upscaler, Weights
from imagegen.schemas import Refused
from imagegen.settings import Settings

GPU_DEFAULT = "qwen-image-edit-2511"
CPU_DEFAULTS = ("sketch", "tiny")  # the first that the catalog has
NOT_INHERITED = {"made_by", "download_bytes", "memory"}
"""Fields that an entry does not inherit from its `base`, because they describe the base as a whole."""


class CatalogError(Exception):
    """An entry's file is invalid. The message names the file, the field and the allowed values."""


@dataclass(frozen=True)
class _File:
    """One parsed TOML file. `label`: its name in messages. `own`: whether it is the user's file."""

    label: str
    own: bool
    data: dict[str, Any]


class Catalog:
    """All models and upscalers that the service knows, by name."""

    def __init__(self, entries: Iterable[Entry | Upscaler]) -> None:
        by_name = sorted(entries, key=lambda e: e.name)
        self._entries = {e.name: e for e in by_name if isinstance(e, Entry)}
        self._upscalers = {e.name: e for e in by_name if isinstance(e, Upscaler)}

    @classmethod
    def load(cls, settings: Settings) -> Catalog:
        """Read the package's entries and `settings.models_dir/*.toml`.

        Raises CatalogError for a file that is not a valid entry, and for an unknown IMAGEGEN_MODEL.
        """
        ours = _read_package()
        theirs = _read_folder(settings.models_dir)
        resolver = _Resolver(ours, theirs)
        # The user's first: an error in a base that a package entry inherits then names the user's file.
        catalog = cls([resolver.entry(name) for name in {**theirs, **ours}])
        if settings.model is not None and settings.model not in catalog._entries:
            raise CatalogError(
                f"IMAGEGEN_MODEL={settings.model!r} is not in the catalog. There are: {', '.join(catalog.names())}."
            )
        return catalog

    @classmethod
    def offered(cls, settings: Settings) -> Catalog:
        """The models that a request may name: the entries of `load` that IMAGEGEN_MODELS lists. Raises CatalogError."""
        catalog = cls.load(settings)
        if settings.models is None:
            return catalog
        names = [name for part in settings.models.split(",") if (name := part.strip())]
        unknown = [name for name in names if name not in catalog._entries]
        if unknown or not names:
            what = f"{unknown[0]!r} is not in the catalog" if unknown else "names no model"
            raise CatalogError(f"IMAGEGEN_MODELS={settings.models!r}: {what}. There are: {', '.join(catalog.names())}.")
        if settings.model is not None and settings.model not in names:
            raise CatalogError(f"IMAGEGEN_MODEL={settings.model!r} is not among IMAGEGEN_MODELS={settings.models!r}.")
        return cls([*(catalog._entries[name] for name in names), *catalog.upscalers()])

    @classmethod
    def packaged(cls) -> Catalog:
        """The package's entries only."""
        ours = _read_package()
        return cls([_Resolver(ours, {}).entry(name) for name in ours])

    def names(self) -> list[str]:
        """Every entry's name, sorted."""
        return list(self._entries)

    def entries(self) -> list[Entry]:
        """Every entry, by name."""
        return list(self._entries.values())

    def get(self, name: str, others: Iterable[str] = ()) -> Entry:
        """The model called `name`. Raises Refused(422, unknown_model), which lists the known names and `others`."""
        entry = self._entries.get(name)
        if entry is None:
            raise unknown_model(name, [*self.names(), *others])
        return entry

    def upscalers(self) -> list[Upscaler]:
        """Every upscaler, by name."""
        return list(self._upscalers.values())

    def upscaler(self, name: str) -> Upscaler | None:
        """The upscaler called `name`, or None."""
        return self._upscalers.get(name)

    def weights(self, name: str) -> Weights:
        """The model or upscaler called `name`. Raises Refused(422, unknown_model), which lists the known names."""
        return self._upscalers.get(name) or self.get(name, self._upscalers)

    def default(self, settings: Settings, has_gpu: bool) -> Entry:
        """The model for a request that names none: IMAGEGEN_MODEL, else a choice that depends on `has_gpu`.

        Without a GPU it is the first installed model by name that no script makes, else one of CPU_DEFAULTS.
        """
        if settings.model is not None:
            return self.get(settings.model)
        installed = [
            e.name
            for e in self._entries.values()
            if e.made_by is None and not e.noise and e.capabilities.draw and e.installed(settings)
        ]
        wanted = (GPU_DEFAULT, *CPU_DEFAULTS) if has_gpu else (*installed, *CPU_DEFAULTS)
        return self.get(next((name for name in wanted if name in self._entries), self.names()[0]))


def own_file(name: str, settings: Settings) -> Path | None:
    """The user's file of the entry called `name`; None if only the package has one.

    Raises CatalogError for a file that is not TOML.
    """
    found = _read_folder(settings.models_dir).get(name)
    return None if found is None else Path(found.label)


def built_on(name: str, settings: Settings) -> list[str]:
    """The user's entries whose `base` is `name`. Raises CatalogError for a file that is not TOML."""
    found = _read_folder(settings.models_dir)
    return [other for other, file in found.items() if other != name and file.data.get("base") == name]


def unknown_model(name: str, known: Iterable[str], kind: str = "model") -> Refused:
    """422 for a name that is not in the catalog."""
    shown = name if len(name) <= 64 else f"{name[:60]}…"
    return Refused(422, "unknown_model", f"There is no {kind} {shown!r}. There are: {', '.join(known)}.")


def missing_sentence(entry: Weights, settings: Settings) -> str:
    """A sentence for the user: the missing files of `entry`, their folders and how to get them."""
    missing = entry.missing(settings)
    if not missing:
        return f"The model {entry.name} is complete."
    lacking: dict[Path, list[str]] = {}
    for file in missing:
        path = entry.path_of(file, settings)
        lacking.setdefault(path.parent, []).append(f"a file like {path.name}" if file.is_pattern else path.name)
    parts = [f"{' and '.join(names)} in {folder}" for folder, names in lacking.items()]
    if entry.made_by:
        how = f"Make it: imagegen models make {entry.name}"
    elif all(file.repo for file in missing):
        first = "Unset HF_HUB_OFFLINE, then fetch it" if is_offline() else "Fetch it"
        how = f"{first}: imagegen models fetch {entry.name}"
    else:
        how = f"Put them there; what they are: imagegen models show {entry.name}"
    return f"The model {entry.name} lacks {', '.join(parts)}. {how}"


def _read_package() -> dict[str, _File]:
    found = {}
    for resource in (package_files("imagegen.models") / "entries").iterdir():
        if resource.name.endswith(".toml"):
            name = resource.name.removesuffix(".toml")
            found[name] = _File(resource.name, False, _parse(resource.name, resource.read_bytes()))
    return found


def _read_folder(folder: Path) -> dict[str, _File]:
    found: dict[str, _File] = {}
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
        found[name] = _File(str(path), True, _with_sources(data, f"your file {path.name}"))
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


class _Resolver:
    """Turns files into entries and resolves `base`."""

    def __init__(self, ours: Mapping[str, _File], theirs: Mapping[str, _File]) -> None:
        self._ours, self._theirs = ours, theirs

    def entry(self, name: str) -> Entry | Upscaler:
        """Validate the entry called `name`. Raises CatalogError."""
        return self._resolve(name, self._theirs.get(name) or self._ours[name], ())[0]

    def _resolve(self, name: str, file: _File, above: tuple[str, ...]) -> tuple[Entry | Upscaler, dict[str, Any]]:
        """The entry and its merged data. `above`: labels of the files that inherit from this one."""
        data = {"name": name, **file.data}
        base = data.pop("base", None)
        if base is not None:
            data = self._inherit(base, file, data, above)
        kind = Upscaler if data.get("adapter") == "esrgan" else Entry
        try:
            return kind.model_validate(data), data
        except ValidationError as invalid:
            lines = [f"{file.label}: {_explain(error, kind)}" for error in invalid.errors()]
            raise CatalogError("\n".join(lines)) from None

    def _inherit(self, base: Any, file: _File, data: dict[str, Any], above: tuple[str, ...]) -> dict[str, Any]:
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

    def _parent(self, base: Any, file: _File, name: Any) -> _File | None:
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


def _explain(error: Any, kind: type[Weights]) -> str:
    """Format a pydantic error as `field: what is wrong; allowed: …`."""
    loc = [part for part in error["loc"] if not str(part).startswith(("function-", "int", "float", "str"))]
    field = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in loc).lstrip(".") or "the entry"
    if error["type"] == "extra_forbidden":
        return f"{field}: is not a field; allowed: {', '.join(_fields(loc[:-1], kind))}"
    allowed = _description(loc, kind)
    hint = f"; allowed: {allowed}" if allowed else ""
    if error["type"] == "missing":
        return f"{field}: is missing{hint}"
    message = error["msg"].removeprefix("Value error, ")
    return f"{field}: {message}, not {error['input']!r}{hint}" if hint else f"{field}: {message}"


def _model_at(loc: list[Any], kind: type[Weights]) -> type[BaseModel] | None:
    model: type[BaseModel] | None = kind
    for part in loc:
        if isinstance(part, int) or model is None:
            continue
        names = {f.alias or n: f for n, f in model.model_fields.items()}
        found = names.get(part)
        model = next((a for a in _types(found.annotation) if issubclass(a, BaseModel)), None) if found else None
    return model


def _types(annotation: Any) -> list[type]:
    inner = get_args(annotation)
    if inner:
        return [t for a in inner for t in _types(a)]
    return [annotation] if isinstance(annotation, type) else []


def _fields(loc: list[Any], kind: type[Weights]) -> list[str]:
    model = _model_at(loc, kind)
    names = sorted(f.alias or n for n, f in model.model_fields.items()) if model else []
    return sorted([*names, "base"]) if model is kind else names


def _description(loc: list[Any], kind: type[Weights]) -> str | None:
    model = _model_at(loc[:-1], kind)
    if model is None or not loc:
        return None
    return next((f.description for n, f in model.model_fields.items() if (f.alias or n) == loc[-1]), None)

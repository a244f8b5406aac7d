"""The catalog: the package's entries and the user's entries from the models folder.

An entry is one TOML file, `NAME.toml`. A user's file replaces the package's entry of the same name.
`base = "NAME"` inherits from an existing entry.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from imagegen.models.download.hub import is_offline
from imagegen.models.entry import Entry
from imagegen.models.entry_files import CatalogError, Resolver, read_folder, read_package
from imagegen.models.weights import Upscaler, Weights
from imagegen.schemas import Refused
from imagegen.settings import Settings

GPU_DEFAULT = "qwen-image-edit-2511"
CPU_DEFAULTS = ("sketch", "tiny")  # the first that the catalog has


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
        ours = read_package()
        theirs = read_folder(settings.models_dir)
        resolver = Resolver(ours, theirs)
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
        ours = read_package()
        return cls([Resolver(ours, {}).entry(name) for name in ours])

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
    found = read_folder(settings.models_dir).get(name)
    return None if found is None else Path(found.label)


def built_on(name: str, settings: Settings) -> list[str]:
    """The user's entries whose `base` is `name`. Raises CatalogError for a file that is not TOML."""
    found = read_folder(settings.models_dir)
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

"""The tables of docs/models.md, from the catalog. `python tools/generate_docs.py` writes them into the page."""

from __future__ import annotations

from collections.abc import Iterable

from imagegen.models.catalog import Catalog
from imagegen.models.entry import Entry
from imagegen.models.entry_tables import ModelFile, Sourced
from imagegen.models.synthetic.make import PACKS
from imagegen.models.weights import Upscaler, Weights


def tables(catalog: Catalog) -> str:
    """The generated part of the page in Markdown."""
    entries, upscalers = catalog.entries(), catalog.upscalers()
    return "\n\n".join(
        [
            "### What there is",
            _table(
                ("Model", "Does", "Size by default", "Sizes", "Licence"),
                [(f"`{e.name}`: {e.description}", _does(e), _size(e), _sizes(e), e.licence.name) for e in entries],
            ),
            "### Numbers, and where they come from",
            _table(
                ("Model", "Parameter", "Default", "Range", "Source"),
                [r for e in entries for r in _numbers(e)],
            ),
            "### Engine flags",
            _table(("Model", "Flag", "Source"), [r for e in entries for r in _flags(e)]),
            "### Fast",
            _table(("Model", "Cache", "From", "Source, or why there is none"), [_fast(e) for e in entries]),
            "### Files",
            _table(
                ("Model", "File, under `models/`", "On the model hub"),
                [r for e in [*entries, *upscalers] for r in _files(e)],
            ),
            "### The upscalers",
            _table(
                ("Upscaler", "Download", "Licence"),
                [(f"`{u.name}`: {u.description}", _download(u), u.licence.name) for u in upscalers],
            ),
            "### Notes",
            "\n".join(f"- `{e.name}`: {note}" for e in [*entries, *upscalers] for note in e.notes),
        ]
    )


def things_of_sketch() -> str:
    """The things that the built-in model can draw, each by its usual name, in Markdown."""
    things = PACKS["sketch"].about["things"]
    return ", ".join(names[0] for names in things) + "."


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _does(entry: Entry) -> str:
    c = entry.capabilities
    able = {"draws": c.draw, "edits": c.edit, "masks": c.mask, "strength": c.strength}
    words = [word for word, can in able.items() if can]
    return ", ".join(words) + ("; noise" if entry.noise else "")


def _size(entry: Entry) -> str:
    return f"{entry.defaults.width.value} × {entry.defaults.height.value}"


def _sizes(entry: Entry) -> str:
    return f"multiples of {entry.size_multiple}, {entry.size_range}"


def _numbers(entry: Entry) -> Iterable[tuple[str, ...]]:
    for name, sourced in entry.defaults:
        if sourced is not None:
            yield f"`{entry.name}`", name, str(sourced.value), _range(sourced), sourced.source
    if entry.memory is not None:
        for what, value in (("VRAM", entry.memory.vram_bytes), ("RAM", entry.memory.ram_bytes)):
            if value is not None:
                yield f"`{entry.name}`", what, f"{value / 1e9:.2f} GB", "", entry.memory.source
    if entry.download_bytes is not None:
        size = float(entry.download_bytes.value) / 1e9
        yield f"`{entry.name}`", "download", f"{size:.1f} GB", "", entry.download_bytes.source


def _range(sourced: Sourced) -> str:
    if sourced.min is None and sourced.max is None:
        return ""
    return str(sourced.min) if sourced.min == sourced.max else f"{sourced.min} to {sourced.max}"


def _flags(entry: Entry) -> Iterable[tuple[str, ...]]:
    for flag in entry.flags:
        value = "" if flag.value is None else f" {flag.value}"
        yield f"`{entry.name}`", f"`{flag.flag}{value}`", flag.source


def _fast(entry: Entry) -> tuple[str, ...]:
    if entry.fast is None or entry.fast.cache_mode is None:
        return f"`{entry.name}`", "none", "", entry.no_fast or ""
    options = f" `{entry.fast.native['cache_option']}`" if entry.fast.cache_options else ""
    return f"`{entry.name}`", entry.fast.cache_mode + options, f"{entry.fast.min_steps} steps", entry.fast.source or ""


def _download(upscaler: Upscaler) -> str:
    if upscaler.made_by is not None:
        return "none"
    stated = upscaler.download_bytes
    return "not known" if stated is None else f"{float(stated.value) / 1e6:.0f} MB ({stated.source})"


def _files(entry: Weights) -> Iterable[tuple[str, ...]]:
    for file in entry.files:
        place = f"`{file.shared or entry.name}/{file.file}`" + (" (optional)" if file.optional else "")
        note = f" ({file.note})" if file.note else ""
        yield f"`{entry.name}`", place, _origin(entry, file) + note


def _origin(entry: Weights, file: ModelFile) -> str:
    if file.repo is None:
        return f"`imagegen models make {entry.name}`"
    return f"{file.repo} `{file.path or file.file}`"

"""`imagegen models`: list the catalog, show the source of each number, make small models, fetch large ones.

`model_files` has `remove` and `check`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from imagegen.cli import candidates
from imagegen.cli.add import add
from imagegen.cli.byte_bar import byte_bar
from imagegen.cli.fetch import fetch
from imagegen.cli.model_files import check, remove
from imagegen.cli.model_memory import memory_lines, memory_needs, took
from imagegen.cli.model_sentences import sentences
from imagegen.models.catalog import Catalog
from imagegen.models.download.record import recorded
from imagegen.models.entry import Entry
from imagegen.models.entry_tables import ModelFile, Sourced
from imagegen.models.packages import lacking, lacking_sentence
from imagegen.models.synthetic.make import make as make_files
from imagegen.models.weights import Weights
from imagegen.settings import Settings, load


@click.group()
def models() -> None:
    """List, show, add, fetch, make, check and remove models."""


for command in (add, fetch, check, remove):
    models.add_command(command)


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_models(as_json: bool) -> None:
    """List every model: abilities, the state of its files, the memory that its pictures took here, licence."""
    settings = load()
    with sentences():
        catalog = Catalog.load(settings)
    entries = [*catalog.entries(), *catalog.upscalers()]
    if as_json:
        _print_json([_as_json(entry, settings) for entry in entries])
        return
    rows = [("NAME", "DOES", "FILES", "MEMORY", "LICENCE", "TITLE")]
    rows += [(e.name, _does(e), _state(e, settings), _took(e, settings), e.licence.name, e.title) for e in entries]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@models.command()
@click.argument("name", shell_complete=candidates.catalog_models)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(name: str, as_json: bool) -> None:
    """Show one model: every number with its source, every file with its path."""
    settings = load()
    with sentences():
        entry = Catalog.load(settings).weights(name)
    if as_json:
        _print_json(_as_json(entry, settings))
    else:
        click.echo("\n".join(_page(entry, settings)))


@models.command()
@click.argument("name", shell_complete=candidates.catalog_models)
@click.option("--vision", is_flag=True, help="With the vision tower, where the model can have one.")
def make(name: str, vision: bool) -> None:
    """Write the files of a model that a script makes, and print their folder."""
    folder = make_with_bar(name, load(), vision)
    click.echo(f"{name} is in {folder}: {_sizes(folder)}.")


def make_with_bar(name: str, settings: Settings, vision: bool = False) -> Path:
    """Make the model with progress on stderr. Returns its folder. Raises ClickException with a sentence."""
    with sentences("written"), byte_bar(f"Making {name}") as progress:
        return make_files(name, settings, progress, vision)


def _print_json(what: Any) -> None:
    click.echo(json.dumps(what, indent=2, ensure_ascii=False))


def _as_json(entry: Weights, settings: Settings) -> dict[str, Any]:
    files = [
        {
            **file.model_dump(),
            "place": str(entry.path_of(file, settings)),
            "there": _there(entry, file, settings),
        }
        for file in entry.files
    ]
    shown = {
        **entry.model_dump(mode="json", exclude={"own_folder"}),
        "folder": str(entry.folder(settings)),
        "files": files,
        "installed": entry.installed(settings),
    }
    if isinstance(entry, Entry):
        shown |= {
            "lacking_packages": list(lacking(entry.adapter)),
            "negative_inert": entry.negative_inert,
            "memory_needs": memory_needs(entry, settings),
        }
    return shown


def _there(entry: Weights, file: ModelFile, settings: Settings) -> bool:
    return entry.path_of(file, settings).is_file()


def _does(entry: Weights) -> str:
    if not isinstance(entry, Entry):
        return "enlarges"
    c = entry.capabilities
    able = {"draws": c.draw, "edits": c.edit, "masks": c.mask, "strength": c.strength}
    words = [word for word, can in able.items() if can]
    return ", ".join(words) + (" (noise)" if entry.noise else "")


def _state(entry: Weights, settings: Settings) -> str:
    missing = entry.missing(settings)
    if isinstance(entry, Entry) and (packages := lacking(entry.adapter)):
        return f"lacks {len(packages)} Python package{'s' if len(packages) > 1 else ''}"
    if missing and entry.made_by is not None:
        return "made when first used"
    if missing:
        return f"lacks {len(missing)} of {sum(not f.optional for f in entry.files)}"
    absent = entry.absent(settings)
    return f"installed, without {len(absent)} optional" if absent else "installed"


def _took(entry: Weights, settings: Settings) -> str:
    """The memory that the pictures of a model took here."""
    return took(entry, settings) if isinstance(entry, Entry) else ""


def _page(entry: Weights, settings: Settings) -> list[str]:
    commercial = {True: "; commercial use allowed", False: "; no commercial use", None: ""}
    lines = [f"{entry.name}: {entry.title}", entry.description, ""]
    references = f"; up to {entry.capabilities.max_references} references" if isinstance(entry, Entry) else ""
    lines.append(f"Does:     {_does(entry)}{references}")
    lines.append(f"Licence:  {entry.licence.name}{commercial[entry.licence.commercial]}")
    if entry.licence.url:
        lines.append(f"          {entry.licence.url}")
    if isinstance(entry, Entry):
        lines += _of_a_model(entry, settings)
    elif entry.download_bytes is not None:
        lines += ["", *_sourced("download", entry.download_bytes)]
    lines += ["", f"Files (its own folder: {entry.folder(settings)}):"]
    for file in entry.files:
        lines += _file(entry, file, settings)
    return lines + [line for note in entry.notes for line in ("", note)]


def _of_a_model(entry: Entry, settings: Settings) -> list[str]:
    """Sizes, defaults, memory, cache and flags."""
    lines = []
    if lacking := lacking_sentence(entry):
        lines.append(f"Engine:   {lacking}")
    shape = (
        "" if entry.edit_max_aspect is None else f"; edits no further from square than 1 to {entry.edit_max_aspect:g}"
    )
    lines.append(f"Sizes:    multiples of {entry.size_multiple} px, {entry.size_range}{shape}")
    lines.append(f"Negative: {_negative(entry)}")
    lines += ["", "Defaults:"]
    for name, sourced in entry.defaults:
        if sourced is not None:
            lines += _sourced(name, sourced)
    if entry.download_bytes is not None:
        lines += _sourced("download", entry.download_bytes)
    if entry.memory is not None:
        for name, value in (("VRAM", entry.memory.vram_bytes), ("RAM", entry.memory.ram_bytes)):
            if value is not None:
                lines += [f"  {name:<10} {value:,} bytes", f"             {entry.memory.source}"]
    lines += memory_lines(entry, settings)
    lines += ["", f"Fast:     {_fast(entry)}"]
    if entry.fast is not None and entry.fast.source is not None:
        lines.append(f"             {entry.fast.source}")
    if entry.flags:
        lines += ["", "Engine flags:"]
        for flag in entry.flags:
            lines += [
                f"  {flag.flag}" + ("" if flag.value is None else f" {flag.value}"),
                f"             {flag.source}",
            ]
    return lines


def _negative(entry: Entry) -> str:
    if not entry.capabilities.negative:
        return "is not read by this model"
    return "does nothing at this cfg_scale" if entry.negative_inert else "applied"


def _fast(entry: Entry) -> str:
    if entry.fast is None or entry.fast.cache_mode is None:
        return f"no. {entry.no_fast}"
    options = entry.fast.native["cache_option"] or "the engine's own options"
    return f"{entry.fast.cache_mode}, {options}; from {entry.fast.min_steps} steps on"


def _sourced(name: str, sourced: Sourced) -> list[str]:
    bounds = sourced.min is not None or sourced.max is not None
    span = f" (range {sourced.min} to {sourced.max}: anything else is drawn, with a warning)" if bounds else ""
    return [f"  {name:<10} {sourced.value}{span}", f"             {sourced.source}"]


def _file(entry: Weights, file: ModelFile, settings: Settings) -> list[str]:
    path = entry.path_of(file, settings)
    there = "there" if path.is_file() else "optional, not there" if file.optional else "MISSING"
    lines = [f"  {file.role:<16} {path} [{there}]"]
    if file.repo:
        lines.append(f"                   on the model hub: {file.repo}, {file.path or file.file}")
    if fetched := recorded(path.parent).get(path.name):
        lines.append(f"                   fetched from {fetched['repo']} at commit {fetched['commit']}")
    if file.note:
        lines.append(f"                   {file.note}")
    return lines


def _sizes(folder: Path) -> str:
    sizes = {p.name: sum(f.stat().st_size for f in [p, *p.rglob("*")] if f.is_file()) for p in sorted(folder.iterdir())}
    return ", ".join(f"{name} {size_bytes / 1e6:.1f} MB" for name, size_bytes in sizes.items())

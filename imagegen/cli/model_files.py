"""`imagegen models remove | check`: delete a model's files, or compare them with their checksums."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from imagegen.cli import candidates
from imagegen.cli.client import service_of
from imagegen.cli.model_sentences import sentences
from imagegen.models import check as checking
from imagegen.models import removal
from imagegen.models.catalog import Catalog, built_on, own_file
from imagegen.models.download.progress import size
from imagegen.models.entry_files import CatalogError
from imagegen.models.weights import Weights
from imagegen.settings import Settings, load
from imagegen.storage.database import StateInUse, lock_state_folder

UNKNOWN_EXIT = 3


@click.command()
@click.argument("name", shell_complete=candidates.catalog_models)
@click.option("--yes", is_flag=True, help="Remove without being asked.")
@click.option("--entry", "with_entry", is_flag=True, help="Remove your own entry of that name too.")
def remove(name: str, yes: bool, with_entry: bool) -> None:
    """Remove a model's files, and say what that frees.

    Files that another installed model uses stay, and so do files outside the models folder. A running service removes
    them itself: it unloads the model first, and refuses while a job needs it.
    """
    settings = load()
    with sentences("removed"):
        catalog = Catalog.load(settings)
        entry = catalog.weights(name)
        todo = removal.plan(entry, [*catalog.entries(), *catalog.upscalers()], settings)
        own = _own_entry(name, settings) if with_entry else None
        for line in _preview(todo, own):
            click.echo(line, err=True)
        if not todo.removed and own is None:
            click.echo(f"{name}: there is nothing to remove.")
            return
        _agree(name, yes, with_entry)
        freed = _remove(todo, settings)
        freed_words = f" {size(freed)} freed." if todo.removed else ""
        click.echo(f"{name}:{freed_words}{_afterwards(entry, own, settings)}")


def _own_entry(name: str, settings: Settings) -> Path:
    """The user's own entry. Raises CatalogError if there is none, or another entry is built on it."""
    path = own_file(name, settings)
    if path is None:
        raise CatalogError(f"{name} is an entry of the package, which cannot be removed. Leave --entry out.")
    if others := built_on(name, settings):
        raise CatalogError(f"{path} is the base of {', '.join(others)}. Remove that entry first.")
    return path


def _preview(todo: removal.Removal, own: Path | None) -> list[str]:
    lines = [f"{file.path}: {size(file.disk_bytes)}" for file in todo.removed]
    lines += [f"{own}: the entry"] if own else []
    lines += [f"{file.path} stays: it {file.kept}." for file in todo.kept]
    return [*lines, f"Removing frees {size(todo.frees_bytes)}."] if todo.removed else lines


def _agree(name: str, yes: bool, with_entry: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        option = " --entry" if with_entry else ""
        raise click.ClickException(f"Nothing was removed. To remove it: imagegen models remove {name}{option} --yes")
    click.confirm("Remove this?", abort=True, err=True)


def _remove(todo: removal.Removal, settings: Settings) -> int:
    """Remove the files here, or by the service that runs on this state folder. Returns the freed bytes."""
    if not todo.removed:
        return 0
    try:
        lock = lock_state_folder(settings.home, wait_s=0.0)
    except StateInUse:
        service = service_of(settings.url)
        return int(service.json("DELETE", f"/api/models/{todo.model}/files")["freed_bytes"])
    with lock:  # no service starts meanwhile
        return removal.remove(todo, settings)


def _afterwards(entry: Weights, own: Path | None, settings: Settings) -> str:
    """Remove the entry's own file, and say what can be done now."""
    if own is not None:
        own.unlink()
        return f" The entry {own.name} was removed; a running service keeps it until its restart."
    if entry.made_by is not None:
        return " It is made again when it is first used."
    if (kept := own_file(entry.name, settings)) is not None:
        return f" Its entry stays: {kept} (--entry removes it too)."
    return f" To have it again: imagegen models fetch {entry.name}"


@click.command()
@click.argument("name", shell_complete=candidates.catalog_models)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(name: str, as_json: bool) -> None:
    """Hash a model's files, and compare them with the catalog or the record of their download.

    Uses no network. Exit code 0 if every file is right, 1 if one is damaged or missing, 3 if none is, but one has no
    known checksum.
    """
    settings = load()
    with sentences():
        entry = Catalog.load(settings).weights(name)
        found = _checked(entry, settings)
    damaged = [one for one in found if one.state in {"damaged", "missing"}]
    unknown = [one for one in found if one.state == "unknown"]
    if as_json:
        files: list[dict[str, Any]] = [{**asdict(one), "path": str(one.path)} for one in found]
        click.echo(json.dumps({"model": name, "ok": not damaged, "files": files}, indent=2))
    else:
        for one in found:
            click.echo(f"{one.path} {one.detail}.")
        if damaged:
            click.echo(_remedy(entry, damaged), err=True)
    sys.exit(1 if damaged else UNKNOWN_EXIT if unknown else 0)


def _checked(entry: Weights, settings: Settings) -> list[checking.Checked]:
    paths = [path for path, _stated in checking.expectations(entry, settings)]
    total = sum(path.stat().st_size for path in paths if path.is_file())
    with click.progressbar(length=max(total, 1), label=f"Checking {entry.name}", file=sys.stderr) as bar:
        return list(checking.check(entry, settings, bar.update))


def _remedy(entry: Weights, damaged: list[checking.Checked]) -> str:
    """What to type to have right files again."""
    if entry.made_by is not None:
        return f"Make it again: imagegen models make {entry.name}"
    there = [str(one.path) for one in damaged if one.state == "damaged"]
    first = f"Remove {' and '.join(there)}, then fetch" if there else "Fetch"
    if all(file.repo for file in entry.files if not file.optional):
        return f"{first} {'it' if len(damaged) == 1 else 'them'}: imagegen models fetch {entry.name}"
    return f"Put right files into their places; what they are: imagegen models show {entry.name}"

"""`imagegen loras`: list the LoRAs that requests may name, add one from a file or from the hub, remove one."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import click

from imagegen.cli import candidates
from imagegen.cli.arguments import InputFile
from imagegen.cli.byte_bar import byte_bar
from imagegen.models.catalog import Catalog
from imagegen.models.download.hub import Hub, HubError
from imagegen.models.download.progress import Fetching, size
from imagegen.models.download.retry import FetchError
from imagegen.models.entry_files import CatalogError
from imagegen.models.loras import add as adding
from imagegen.models.loras.folder import SUFFIX, LoraFile, LoraFolder
from imagegen.schemas import Refused
from imagegen.settings import Settings, load

HUB = re.compile(r"[\w.-]+/[\w.-]+(/[^\s]+)?")
LARGEST_BYTES = 1 << 40


@click.group()
def loras() -> None:
    """List, add and remove LoRAs, which `imagegen draw --lora NAME` draws with."""


@loras.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_loras(as_json: bool) -> None:
    """List every LoRA with its size, base model, trigger words, and the models it can be used with."""
    settings = load()
    folder = LoraFolder(settings)
    with _sentences():
        found = [(lora, _models(folder, lora, settings)) for lora in folder.all()]
    if as_json:
        click.echo(json.dumps([_as_json(*one) for one in found], indent=2, ensure_ascii=False))
        return
    if not found:
        click.echo(f"There are no LoRAs in {folder.path}. `imagegen loras add FILE` adds one.", err=True)
        return
    for lora, models in found:
        click.echo(f"{lora.name}  {size(lora.bytes)}")
        for label, text in _facts(lora, models):
            click.echo(f"  {label + ':':<14} {text}")


@loras.command()
@click.argument("source", metavar="FILE|OWNER/NAME[/FILE]")
@click.option("--name", help="The name that requests use; default: the file's.")
@click.option("--yes", is_flag=True, help="Accept the licence without being asked.")
def add(source: str, name: str | None, yes: bool) -> None:
    """Add a LoRA from a file, or from the model hub with its checksum. It is checked before it is added.

    \b
    imagegen loras add ~/Downloads/watercolour.safetensors
    imagegen loras add owner/watercolour-lora
    imagegen loras add owner/many-loras/watercolour.safetensors --name water
    """
    settings = load()
    folder = LoraFolder(settings)
    with _sentences():
        if HUB.fullmatch(source) and not Path(source).expanduser().exists():
            lora = _from_hub(folder, source, name, yes)
        else:
            lora = _from_file(folder, source, name)
        models = _models(folder, lora, settings)
    click.echo(f"Added {lora.name} ({size(lora.bytes)}): imagegen draw … --lora {lora.name}")
    for label, text in _facts(lora, models):
        click.echo(f"  {label + ':':<14} {text}")


@loras.command()
@click.argument("name", shell_complete=candidates.loras)
def remove(name: str) -> None:
    """Remove a LoRA. Jobs that wait and name it will fail, and say so."""
    with _sentences():
        size_bytes = adding.remove(LoraFolder(load()), name)
    click.echo(f"Removed {name.removesuffix(SUFFIX)} ({size(size_bytes)}).")


def _from_file(folder: LoraFolder, source: str, name: str | None) -> LoraFile:
    path = InputFile(LARGEST_BYTES).convert(source, None, None)
    with byte_bar(f"Copying {path.name} ({size(path.stat().st_size)})") as progress:
        return adding.add_file(folder, path, name, progress)


def _from_hub(folder: LoraFolder, reference: str, name: str | None, yes: bool) -> LoraFile:
    hub = Hub()
    found = adding.find_on_hub(
        reference, hub, lambda trouble, s: click.echo(f"{trouble}; the next try is in {s:.0f} s", err=True)
    )
    click.echo(str(found), err=True)
    if found.question is not None and not yes:
        if not sys.stdin.isatty():
            raise click.ClickException(f"{found.question} Then say so: imagegen loras add {reference} --yes")
        click.confirm(found.question, abort=True, err=True)
    with byte_bar("Fetching it") as progress:

        def show(now: Fetching) -> None:
            if now.trouble is not None:
                click.echo(f"{now}.", err=True)
            else:
                progress(now.done_bytes, now.total_bytes)

        return adding.add_from_hub(folder, found, name, hub, show, Event())


def _models(folder: LoraFolder, lora: LoraFile, settings: Settings) -> list[str]:
    return [entry.name for entry in Catalog.load(settings).entries() if folder.fits(lora, entry)]


def _facts(lora: LoraFile, models: list[str]) -> Iterator[tuple[str, str]]:
    if lora.fault is not None:
        yield "cannot be used", f"the file {lora.fault}"
        return
    yield "made for", lora.facts.base_model or lora.facts.family or "not said in the file"
    if lora.facts.trigger_words:
        yield "trigger words", ", ".join(lora.facts.trigger_words)
    yield "models", ", ".join(models) or "none of the installed ones"


def _as_json(lora: LoraFile, models: list[str]) -> dict[str, Any]:
    return {
        "name": lora.name,
        "bytes": lora.bytes,
        "base_model": lora.facts.base_model,
        "family": lora.facts.family,
        "trigger_words": list(lora.facts.trigger_words),
        "models": models,
        "fault": lora.fault,
    }


@contextmanager
def _sentences() -> Iterator[None]:
    """Turn an expected error into a sentence on stderr and exit code 1."""
    try:
        yield
    except Refused as refused:
        raise click.ClickException(refused.detail) from None
    except (CatalogError, HubError, FetchError, adding.CannotAdd) as failed:
        raise click.ClickException(str(failed)) from None
    except OSError as failure:
        raise click.ClickException(f"The LoRAs cannot be read: {failure.strerror} ({failure.filename}).") from None

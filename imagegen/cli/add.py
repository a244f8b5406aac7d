"""`imagegen models add`: write a catalog entry for a file of weights."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import click

from imagegen.cli.documents import ModelAdded
from imagegen.cli.model_sentences import sentences
from imagegen.cli.output import json_option, print_json
from imagegen.models import adding, families
from imagegen.models.adding import Unanswered, Wish
from imagegen.models.entry import Entry
from imagegen.models.recognition import WeightsError, WeightsFile
from imagegen.settings import Settings, load

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("file", type=FILE)
@click.option("--vae", type=FILE, help="Its VAE, where the file has none.")
@click.option("--tae", type=FILE, help="A small autoencoder in place of the VAE.")
@click.option("--llm", type=FILE, help="Its text model.")
@click.option("--clip-l", type=FILE, help="Its CLIP-L text encoder.")
@click.option("--clip-g", type=FILE, help="Its CLIP-G text encoder.")
@click.option("--t5xxl", type=FILE, help="Its T5 text encoder.")
@click.option("--variant", help="Its kind within the family, where the tensors do not show it.")
@click.option("--name", help="The name of the entry; default: from the file's name.")
@click.option("--licence", help="Its licence, where the file does not state it.")
@json_option
def add(
    file: Path, variant: str | None, name: str | None, licence: str | None, as_json: bool, **companions: Path | None
) -> None:
    """Add a model from a GGUF or safetensors FILE, which stays where it is.

    The family is recognised from the tensors. Text encoders and the VAE are those of the catalog's model of the same
    family, unless they are in the file or named. The entry is a file of your own in the models folder.
    """
    settings = load()
    given = {role: path for role, path in companions.items() if path is not None}
    wish = Wish(given, variant, None if name is None else adding.slug(name), licence)
    with sentences("written"):
        try:
            found, family = adding.recognise(file)
            entry_name, text = _composed(found, family, wish)
        except (WeightsError, Unanswered) as wrong:
            raise click.ClickException(str(wrong)) from None
        path, entry = adding.write(entry_name, text, settings)
    click.echo(f"{file.name} is a model of the family {family}: {entry.description}", err=True)
    if as_json:
        missing = [one.file for one in entry.missing(settings)]
        print_json(ModelAdded(entry.name, str(path), family, missing))
    else:
        click.echo(f"{entry.name}: {path}")
    click.echo(_next(entry, settings), err=True)


def _composed(found: WeightsFile, family: str, wish: Wish) -> tuple[str, str]:
    """The entry's name and TOML. Asks for the variant at a terminal. Raises Unanswered, WeightsError."""
    try:
        return adding.compose(found, family, wish)
    except Unanswered:
        kinds = families.FAMILIES[family].variants
        known = wish.variant or families.guess(families.FAMILIES[family], found.path.stem)
        if known in kinds or not sys.stdin.isatty():
            raise
        chosen = click.prompt("Which is it", type=click.Choice(list(kinds)), err=True)
        return adding.compose(found, family, replace(wish, variant=chosen))


def _next(entry: Entry, settings: Settings) -> str:
    """What to type next."""
    draw = f'imagegen draw "a red circle" --model {entry.name}'
    if entry.missing(settings):
        return f"It needs more files: imagegen models fetch {entry.name}\nThen restart a running service, and: {draw}"
    return f"Restart a running service to load the entry. Then: {draw}"

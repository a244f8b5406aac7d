"""`imagegen token`: make the tokens that the service asks for."""

from __future__ import annotations

from pathlib import Path

import click

from imagegen.cli.documents import NewToken
from imagegen.cli.output import json_option, print_json
from imagegen.security import tokens
from imagegen.settings import load


@click.group()
def token() -> None:
    """Make the tokens of the service's clients."""


@token.command()
@click.argument("name")
@click.option(
    "--file", type=click.Path(dir_okay=False, path_type=Path), help="Default: the file tokens in the state folder."
)
@json_option
def new(name: str, file: Path | None, as_json: bool) -> None:
    """Make a token named NAME and print it, once; the file keeps only its SHA-256."""
    settings = load()
    kept = file or settings.tokens_file
    try:
        made = tokens.new(name, kept)
    except OSError as failure:
        raise click.ClickException(f"{kept} cannot be written: {failure.strerror}.") from None
    if as_json:
        print_json(NewToken(name, made, str(kept.absolute())))
    else:
        click.echo(made)
    configured = (settings.tokens or "").strip()
    read = configured == f"@{kept}" or (not configured and kept == settings.tokens_file)
    how = "" if read else f" with IMAGEGEN_TOKENS=@{kept.absolute()}"
    click.echo(
        f"The token is shown only now. {kept} keeps its SHA-256. The service requires it from its next start "
        f"on{how}; clients send it as `Authorization: Bearer …` (the command line: IMAGEGEN_TOKEN).",
        err=True,
    )

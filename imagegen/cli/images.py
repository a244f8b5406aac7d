"""`imagegen images`: the pictures of a service: find them, write them to files, keep and delete them."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from textwrap import shorten
from typing import Any

import click

from imagegen.cli.arguments import STANDARD, OutputFile, format_of
from imagegen.cli.client import service_of, url_option
from imagegen.cli.documents import ImagesRemoved, SavedImage
from imagegen.cli.errors import ServiceError
from imagegen.cli.output import json_option, print_json
from imagegen_client import calls
from imagegen_client.pictures import ADDRESS, ID

SHOWN_CHARS = 60


class PictureId(click.ParamType):
    """The id of a picture, or its address."""

    name = "id"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        if ID.fullmatch(str(value)):
            return str(value)
        address = ADDRESS.fullmatch(str(value))
        if address is None:
            self.fail(f"{str(value)!r} is no picture's id or address. `imagegen images list` lists them.", param, ctx)
        return address[1]


@click.group()
def images() -> None:
    """Find the pictures of a service, write them to files, keep and delete them."""


@images.command("list")
@click.option("-n", "limit", type=click.IntRange(1, 200), default=20, show_default=True, help="How many.")
@click.option("-q", "--search", "q", help="Words of the prompt or the note.")
@click.option("--kept/--not-kept", default=None, help="Kept pictures only, or the others.")
@click.option("--board", help="Pictures on this board.")
@click.option("--model", help="Pictures of this model.")
@click.option("--kind", type=click.Choice(["generate", "edit", "upscale", "upload"]), help="Pictures of such jobs.")
@click.option("--from", "since", help="From this day or time on, such as 2027-03-01.")
@click.option("--to", "until", help="Up to this day, which is included, or time.")
@json_option
@url_option
def list_images(limit: int, as_json: bool, url: str | None, **filters: Any) -> None:
    """List the newest pictures, the newest first.

    \b
    imagegen images list -q "coffee cup" --kept
    """
    params = {"limit": str(limit)} | calls.query_of(filters)
    items = service_of(url).json("GET", "/api/images", params=params)["items"]
    if as_json:
        print_json(items)
        return
    if not items:
        click.echo("no pictures")
    for one in items:
        size = f"{one['width']}x{one['height']}"
        seed = "" if one["seed"] is None else f"seed {one['seed']}"
        star = "kept" if one["kept_at"] else ""
        words = shorten((one["prompt"] or "").replace("\n", " "), SHOWN_CHARS, placeholder="…")
        click.echo(f"{one['id']}  {one['created_at']}  {size:<9}  {seed:<15}  {star:<4}  {words}".rstrip())


@images.command()
@click.argument("picture", metavar="ID", type=PictureId())
@click.option(
    *("-o", "--output"),
    type=OutputFile(standard=True),
    help="File to write: .png, .jpg or .webp; -: a PNG to standard output. Default: ID.png.",
)
@json_option
@url_option
def get(picture: str, output: Path | None, as_json: bool, url: str | None) -> None:
    """Write a picture to a file. ID may be its address, too."""
    from imagegen.cli.delivery import check_output, write

    check_output(output, 1, as_json)
    target = output or Path(f"{picture}.png")
    data = service_of(url).call("GET", f"/images/{picture}.{format_of(target)}").content
    try:
        write(target, data)
    except OSError as failed:
        raise ServiceError(f"{target} cannot be written: {failed.strerror}.") from None
    if as_json:
        print_json(asdict(SavedImage(picture, str(target), len(data))))
    elif target != Path(STANDARD):
        click.echo(target)


@images.command()
@click.argument("picture", metavar="ID", type=PictureId())
@click.option("--board", help="Put it on this board.")
@click.option("--note", help="A text that a search finds.")
@json_option
@url_option
def keep(picture: str, board: str | None, note: str | None, as_json: bool, url: str | None) -> None:
    """Keep a picture beyond its expiry, until `imagegen images unkeep`."""
    body = {name: value for name, value in {"board": board, "note": note}.items() if value is not None}
    kept = service_of(url).json("POST", f"/api/images/{picture}/keep", json=body or None)
    _show(kept, "kept", as_json)


@images.command()
@click.argument("picture", metavar="ID", type=PictureId())
@json_option
@url_option
def unkeep(picture: str, as_json: bool, url: str | None) -> None:
    """Let a kept picture expire."""
    released = service_of(url).json("DELETE", f"/api/images/{picture}/keep")
    _show(released, f"expires at {released['expires_at']}", as_json)


def _show(image: dict[str, Any], state: str, as_json: bool) -> None:
    if as_json:
        print_json(image)
    else:
        click.echo(f"{image['id']}  {state}")


@images.command()
@click.argument("pictures", metavar="ID…", type=PictureId(), nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Delete without being asked.")
@json_option
@url_option
def rm(pictures: tuple[str, ...], yes: bool, as_json: bool, url: str | None) -> None:
    """Delete pictures before their time, kept ones too. It cannot be undone."""
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("Nothing was deleted. To delete without being asked: --yes")
        click.confirm(f"Delete {len(pictures)} picture{'s' if len(pictures) > 1 else ''}?", abort=True, err=True)
    service = service_of(url)
    for picture in pictures:
        service.call("DELETE", f"/api/images/{picture}")
        click.echo(f"{picture}  deleted", err=as_json)
    if as_json:
        print_json(ImagesRemoved(list(pictures)))

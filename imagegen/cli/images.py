"""`imagegen images`: the pictures of a service: list them, and write them to files."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from imagegen.cli.arguments import STANDARD, OutputFile, format_of
from imagegen.cli.client import service_of, url_option
from imagegen.cli.documents import SavedImage
from imagegen.cli.errors import ServiceError
from imagegen.cli.output import json_option, print_json
from imagegen_client.pictures import ADDRESS, ID


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
    """List the pictures of a service, and write them to files."""


@images.command("list")
@click.option("-n", "limit", type=click.IntRange(1, 200), default=20, show_default=True, help="How many.")
@json_option
@url_option
def list_images(limit: int, as_json: bool, url: str | None) -> None:
    """List the newest pictures, the newest first."""
    items = service_of(url).json("GET", "/api/images", params={"limit": limit})["items"]
    if as_json:
        print_json(items)
        return
    if not items:
        click.echo("no pictures")
    for one in items:
        size = f"{one['width']}x{one['height']}"
        seed = "" if one["seed"] is None else f"seed {one['seed']}"
        click.echo(f"{one['id']}  {one['created_at']}  {size:<9}  {seed:<15}  {one['url']}")


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

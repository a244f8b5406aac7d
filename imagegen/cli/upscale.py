"""`imagegen upscale`: write a larger copy of a picture to a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from imagegen.cli import candidates
from imagegen.cli.arguments import InputFile, OutputFile
from imagegen.cli.client import service_of, url_option
from imagegen.cli.delivery import check_output, deliver, title
from imagegen.cli.show import show_option, showing
from imagegen_client.pictures import ID


class Source(InputFile):
    """A picture file, or the id of a picture of the service."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Path | str:  # type: ignore[override]
        return str(value) if ID.fullmatch(str(value)) else super().convert(value, param, ctx)


@click.command()
@click.argument("image", type=Source())
@click.option(
    *("-o", "--output"),
    type=OutputFile(standard=True),
    help="File to write: .png, .jpg or .webp; -: a PNG to standard output. Default: a name made of the picture's.",
)
@click.option("--factor", type=click.Choice(["2", "4"]), default="4", show_default=True, help="Times as wide and high.")
@click.option(
    "--model",
    shell_complete=candidates.upscalers,
    help="An upscaler of `imagegen models list`, or lanczos. Default: what is installed.",
)
@show_option
@url_option
def upscale(
    image: Path | str, output: Path | None, factor: str, model: str | None, show: bool | None, url: str | None
) -> None:
    """Write a larger copy of IMAGE: a file, or the id of a picture of the service.

    \b
    imagegen upscale cup.png -o large.png
    imagegen upscale cup.png --factor 2 --model lanczos
    """
    check_output(output, 1)
    service = service_of(url)
    request: dict[str, Any] = {"factor": int(factor)}
    request["image"] = service.upload(image) if isinstance(image, Path) else image
    if model is not None:
        request["model"] = model
    shown = showing(show)
    job = service.json("POST", "/api/upscale", json=request)
    click.echo(f"upscaler: {title(service, job['model'])}", err=True)
    deliver(service, job, output, f"{image.stem if isinstance(image, Path) else 'picture'} x{factor}", shown)

"""`imagegen draw` and `imagegen edit`: write pictures to files, with the model and a progress bar on stderr.

`delivery` follows the job and writes its pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from imagegen.cli import candidates
from imagegen.cli.arguments import InputFile, LoraChoice, OutputFile, Prompt, format_of
from imagegen.cli.client import Service, service_of, url_option
from imagegen.cli.delivery import check_output, deliver, title
from imagegen.cli.show import show_option, showing

shared_options = [
    click.option(
        *("-o", "--output"),
        type=OutputFile(standard=True),
        help="File to write: .png, .jpg or .webp; -: a PNG to standard output. Default: a name made of the prompt.",
    ),
    click.option("--steps", type=int, help="Sampling steps."),
    click.option("--seed", type=int, help="The same seed gives the same picture."),
    click.option("--cfg-scale", type=float, help="Guidance: how strictly the picture follows the prompt."),
    click.option("--negative", help="What not to draw."),
    click.option("--model", help="See `imagegen models list`.", shell_complete=candidates.models),
    click.option(
        "--lora",
        "loras",
        type=LoraChoice(),
        multiple=True,
        metavar="NAME[:STRENGTH]",
        shell_complete=candidates.loras,
        help="A LoRA to draw with, at strength 1 unless given; may be repeated. See `imagegen loras list`.",
    ),
    click.option("--speed", type=click.Choice(["quality", "fast"]), help="fast skips steps; default: quality."),
    click.option("--transparent", is_flag=True, help="Ask for a plain background, and cut it out of the picture."),
    click.option("-n", "count", type=int, default=1, show_default=True, help="How many pictures."),
    show_option,
    url_option,
]


def _with_options(width: str, height: str) -> Callable[[Any], Any]:
    """Add the options of both commands. `width` and `height` describe the defaults of those options."""

    def add(command: Any) -> Any:
        for option in reversed(shared_options):
            command = option(command)
        command = click.option("-H", "--height", type=int, help=f"Pixels down; default: {height}.")(command)
        return click.option("-W", "--width", type=int, help=f"Pixels across; default: {width}.")(command)

    return add


@click.command()
@click.argument("prompt", type=Prompt())
@_with_options("the model's", "the model's")
def draw(prompt: str, **options: Any) -> None:
    """Draw a picture from words; with - as PROMPT from those on standard input.

    \b
    imagegen draw "a clipart icon of a coffee cup" -o cup.png
    imagegen draw - -o - < prompt.txt > cup.png
    """
    _run("/api/generate", {"prompt": prompt}, options)


@click.command()
@click.argument("image", type=InputFile())
@click.argument("prompt", type=Prompt())
@click.option("--also", type=InputFile(), multiple=True, help="A further reference picture. May be repeated.")
@_with_options("by the shape of IMAGE, at the model's usual area", "by the shape of IMAGE")
@click.option(
    "--fit",
    type=click.Choice(["contain", "cover", "stretch"]),
    help="How to fit the pictures to another aspect ratio: contain pads with white, cover crops, stretch distorts; "
    "default: contain. With contain one side is enough, and the other follows.",
)
@click.option("--strength", type=float, help="How much IMAGE may change, 0 to 1; only for models that support it.")
@click.option("--mask", type=InputFile(), help="A picture of IMAGE's aspect ratio: white areas may change.")
def edit(
    image: Path,
    prompt: str,
    also: tuple[Path, ...],
    fit: str | None,
    strength: float | None,
    mask: Path | None,
    **options: Any,
) -> None:
    """Change a picture by words. How many pictures a model takes: `imagegen models show NAME`.

    \b
    imagegen edit cup.png "make the cup blue" -o blue.png
    imagegen edit cup.png "put the cup on the table" --also table.png
    """
    request: dict[str, Any] = {"prompt": prompt, "images": [image, *also]}
    if fit:
        request["fit"] = fit
    if strength is not None:
        request["strength"] = strength
    if mask:
        request["mask"] = mask
    _run("/api/edit", request, options)


def _uploaded(service: Service, request: dict[str, Any]) -> dict[str, Any]:
    """The request with ids for its pictures."""
    given = dict(request)
    if "images" in given:
        given["images"] = [service.upload(one) for one in given["images"]]
    if "mask" in given:
        given["mask"] = service.upload(given["mask"])
    return given


def _run(path: str, request: dict[str, Any], options: dict[str, Any]) -> None:
    output: Path | None = options["output"]
    check_output(output, options["count"])
    if options["transparent"] and output is not None and format_of(output) == "jpg":
        raise click.UsageError("A JPEG cannot be transparent: name a .png or .webp file.")
    service = service_of(options["url"])
    for name in ("width", "height", "steps", "seed", "cfg_scale", "negative", "model", "speed"):
        if options[name] is not None:
            request[name] = options[name]
    if options["loras"]:
        request["loras"] = list(options["loras"])
    if options["transparent"]:
        request["background"] = "transparent"
    if options["count"] != 1:
        request["n"] = options["count"]
    if shown := showing(options["show"]):
        request["preview"] = "auto"
    job = service.json("POST", path, json=_uploaded(service, request))
    click.echo(f"model: {title(service, job['model'])}", err=True)
    deliver(service, job, output, request["prompt"], shown)

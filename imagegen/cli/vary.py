"""`imagegen vary`: draw a picture again with other seeds, or a picture file anew."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import click

from imagegen.cli import candidates
from imagegen.cli.arguments import InputFile, OutputFile
from imagegen.cli.client import Service, service_of, url_option
from imagegen.cli.delivery import check_output, deliver, title
from imagegen.cli.errors import Refused
from imagegen.cli.show import show_option, showing

_ID = re.compile(r"(?:^|/)([0-9a-f]{32})(?:\.(?:png|jpg|webp))?$")


@click.command()
@click.argument("what", shell_complete=candidates.jobs_or_files)
@click.option("-n", "count", type=int, default=4, show_default=True, help="How many pictures.")
@click.option("--seed", type=int, help="The seed of the first picture; default: random.")
@click.option("--model", shell_complete=candidates.models, help="For a file: the model that draws it anew.")
@click.option(
    *("-o", "--output"),
    type=OutputFile(standard=True),
    help="File to write: .png, .jpg or .webp; several pictures are numbered. Default: a name made of the prompt.",
)
@show_option
@url_option
def vary(
    what: str,
    count: int,
    seed: int | None,
    model: str | None,
    output: Path | None,
    show: bool | None,
    url: str | None,
) -> None:
    """Draw variations of WHAT: the id or the address of a picture, the id of a job, or a picture file.

    A picture of this service is drawn from its own prompt with other seeds. Of a file a model that edits draws others.

    \b
    imagegen vary 3f0a…9c -n 4 -o cup.png
    imagegen vary photo.jpg -n 2
    """
    check_output(output, count)
    service = service_of(url)
    request: dict[str, Any] = {"n": count}
    if seed is not None:
        request["seed"] = seed
    if model is not None:
        request["model"] = model
    found = None if os.path.lexists(what) else _ID.search(what)
    if found is None:
        request["image"] = service.upload(InputFile().convert(what, None, None))
    else:
        request[_kind(service, found[1])] = found[1]
    if shown := showing(show):
        request["preview"] = "auto"
    job = service.json("POST", "/api/variations", json=request)
    click.echo(f"model: {title(service, job['model'])}", err=True)
    deliver(service, job, output, job["prompt"], shown)


def _kind(service: Service, an_id: str) -> str:
    """The field that takes the id: `job_id` if there is such a job, else `image`."""
    try:
        service.json("GET", f"/api/jobs/{an_id}")
    except Refused as refused:
        if refused.code != "job_not_found":
            raise
        return "image"
    return "job_id"

"""`imagegen inspect`: how a picture was made, as its file says."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from imagegen.cli.arguments import InputFile
from imagegen.cli.client import service_of, url_option
from imagegen.cli.output import json_option, print_json
from imagegen_client.wire import Request, read_json

OPTIONS = {
    "model": "--model",
    "width": "-W",
    "height": "-H",
    "steps": "--steps",
    "seed": "--seed",
    "cfg_scale": "--cfg-scale",
    "negative": "--negative",
    "speed": "--speed",
}
"""The options of `imagegen draw` by the fields of a request."""


@click.command()
@click.argument("file", type=InputFile())
@json_option
@url_option
def inspect(file: Path, as_json: bool, url: str | None) -> None:
    """Show the prompt and the settings in a PNG of this service, AUTOMATIC1111, ComfyUI or InvokeAI.

    The last line is the command that draws with those that this service has.
    """
    headers = {"Content-Type": "application/octet-stream"}
    request = Request("POST", "/api/images/inspect", content=file.read_bytes(), headers=headers)
    found = service_of(url).run(read_json(request))
    if as_json:
        print_json(found)
        return
    for warning in found["warnings"]:
        click.echo(f"note: {warning['detail']}", err=True)
    if found["program"] is None:
        click.echo(f"{found['width']}x{found['height']}; the file does not say how it was made")
        return
    click.echo(f"made by    {found['program']}, {found['width']}x{found['height']}")
    settings: dict[str, Any] = found["settings"]
    rows = {name: value for name, value in settings.items() if value not in (None, [], {}) and name != "others"}
    rows["loras"] = ", ".join(f"{one['name']}:{one['strength']:g}" for one in settings["loras"])
    for name, value in (rows | settings["others"]).items():
        if value != "":
            click.echo(f"{name:<10} {value}")
    click.echo(f"\n{_command(found['request'])}")


def _command(request: dict[str, Any]) -> str:
    words = ["imagegen", "draw", request.get("prompt", "…")]
    for name, option in OPTIONS.items():
        if name in request:
            words += [option, str(request[name])]
    for one in request.get("loras", []):
        words += ["--lora", f"{one['name']}:{one['strength']:g}"]
    if request.get("background") == "transparent":
        words.append("--transparent")
    return shlex.join(words)

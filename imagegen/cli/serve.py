"""`imagegen serve`: set up what is missing, then run the BentoML service in this process's place."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from imagegen import engine_build, settings
from imagegen.cli.engine import set_up_engine
from imagegen.cli.models import make_with_bar
from imagegen.hardware import gpu
from imagegen.models.catalog import Catalog, CatalogError, missing_sentence
from imagegen.models.download.background import may_fetch
from imagegen.models.packages import lacking_sentence, torch_uses_cuda
from imagegen.models.synthetic.make import to_make
from imagegen.security import tokens


@click.command()
@click.option("--host", help="Address to listen on; default 127.0.0.1 (IMAGEGEN_HOST).")
@click.option("--port", type=click.IntRange(1, 65535), help="Port; default 8765 (IMAGEGEN_PORT).")
@click.option("--model", help="Default model (IMAGEGEN_MODEL).")
def serve(host: str | None, port: int | None, model: str | None) -> None:
    """Run the service. The first time, the engine is built (some minutes) and the model is set up."""
    for name, value in (("HOST", host), ("PORT", port), ("MODEL", model)):
        if value is not None:
            os.environ[f"IMAGEGEN_{name}"] = str(value)
    chosen = settings.load()
    tokens.for_service(chosen)  # a door that may not be opened is told now, not after the engine was built
    has_gpu = gpu.read() is not None
    try:
        entry = Catalog.offered(chosen).default(chosen, has_gpu=has_gpu)
    except CatalogError as wrong:
        raise click.ClickException(str(wrong)) from None
    try:
        engine_build.require_gpu(chosen, torch_uses_cuda() if entry.adapter == "glm" else None)
    except engine_build.EngineMissing as missing:
        raise click.ClickException(str(missing)) from None
    if entry.adapter == "sdcpp":
        try:
            engine_build.resolve(chosen)
        except engine_build.EngineMissing:
            set_up_engine(chosen)
    lacking = lacking_sentence(entry)
    if lacking is not None:
        click.echo(f"note: {lacking}", err=True)
    elif to_make(entry, chosen):
        make_with_bar(entry.name, chosen)
    elif entry.missing(chosen):
        if may_fetch(entry, chosen.auto_fetch, is_default=True, has_gpu=has_gpu):
            click.echo(
                f"{entry.name} ({entry.licence.name}) is fetched from the model hub. The service is up meanwhile, and "
                "jobs wait. IMAGEGEN_AUTO_FETCH=off forbids it.",
                err=True,
            )
        else:
            click.echo(f"note: {missing_sentence(entry, chosen)}", err=True)
    if not has_gpu:
        click.echo("No NVIDIA GPU was found: the engine runs on the CPU.", err=True)
    if entry.limits is not None:
        others = "`imagegen models list` names others, and IMAGEGEN_MODEL chooses one."
        click.echo(f"The model is {entry.name}. {entry.limits} {others}", err=True)
    click.echo(f"serving {entry.name} at {chosen.url}", err=True)
    grace = int(chosen.shutdown_grace_s) + 15
    root = Path(__file__).parents[2]
    arguments = ["-m", "bentoml", "serve", "service:ImageGen", "--working-dir", str(root)]
    os.execv(sys.executable, [sys.executable, *arguments, "--timeout-graceful-shutdown", str(grace)])  # noqa: S606

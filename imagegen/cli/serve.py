"""`imagegen serve`: set up what is missing, then replace this process with the BentoML service."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

import click

from imagegen import config_file, engine_build
from imagegen.cli.engine import set_up_engine
from imagegen.cli.models import make_with_bar
from imagegen.hardware import gpu
from imagegen.models.catalog import missing_sentence
from imagegen.models.download.background import may_fetch
from imagegen.models.entry import Entry
from imagegen.models.packages import lacking_sentence
from imagegen.models.synthetic.make import to_make
from imagegen.settings import Settings, SettingsError
from imagegen.startup import configuration
from imagegen.startup import port as listening


@click.command()
@click.option("--host", help="Address to listen on; default 127.0.0.1 (IMAGEGEN_HOST).")
@click.option("--port", type=click.IntRange(1, 65535), help="Port; default 8765 (IMAGEGEN_PORT).")
@click.option("--model", help="Default model (IMAGEGEN_MODEL).")
def serve(host: str | None, port: int | None, model: str | None) -> None:
    """Run the service. The first time, the engine is built (some minutes) and the model is set up."""
    for name, value in (("HOST", host), ("PORT", port), ("MODEL", model)):
        if value is not None:
            os.environ[f"IMAGEGEN_{name}"] = str(value)
    try:
        os.environ[config_file.VARIABLE] = str(config_file.find() or "")  # one file for all processes of this service
        configured = configuration.read()
        chosen = configured.settings
        entry = configuration.check(configured, chosen.host, chosen.port)
        _make_bentoml_home(chosen)
        _set_up(entry, chosen)
        listening.check(chosen.host, chosen.port)  # again: building the engine takes minutes
    except configuration.SENTENCES as wrong:
        raise click.ClickException(configuration.sentence(wrong) or str(wrong)) from None
    click.echo(f"serving {entry.name} at {chosen.url}", err=True)
    _become_service(chosen)


def _make_bentoml_home(chosen: Settings) -> None:
    """Create BentoML's folder. BentoML needs it before it loads the service, and the user may lack write access to its
    default, ~/bentoml. Raises SettingsError."""
    home = Path(os.environ.setdefault("BENTOML_HOME", str(chosen.home / "bentoml")))
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as failure:
        raise SettingsError(f"BENTOML_HOME={home} cannot be used: {failure.strerror}. Set another folder.") from None
    if not os.access(home, os.W_OK | os.X_OK):
        raise SettingsError(f"BENTOML_HOME={home} cannot be written by this user. Set another folder.")


def _set_up(entry: Entry, chosen: Settings) -> None:
    """Build the engine and make the files of the default model, `entry`, if they are missing.

    Raises ClickException.
    """
    card = gpu.read(chosen)
    if entry.adapter == "sdcpp":
        try:
            engine_build.resolve(chosen)
        except engine_build.EngineMissing:
            set_up_engine(chosen)
    if (lacking := lacking_sentence(entry)) is not None:
        click.echo(f"note: {lacking}", err=True)
    elif to_make(entry, chosen):
        make_with_bar(entry.name, chosen)
    elif entry.missing(chosen):
        if may_fetch(entry, chosen.auto_fetch, is_default=True, has_gpu=gpu.is_card(card)):
            click.echo(
                f"{entry.name} ({entry.licence.name}) is fetched from the model hub. The service is up meanwhile, and "
                "jobs wait. IMAGEGEN_AUTO_FETCH=off forbids it.",
                err=True,
            )
        else:
            click.echo(f"note: {missing_sentence(entry, chosen)}", err=True)
    if card is None:
        click.echo("No GPU that the engine can use was found: it runs on the CPU.", err=True)
    if entry.limits is not None:
        others = "`imagegen models list` names others, and IMAGEGEN_MODEL chooses one."
        click.echo(f"The model is {entry.name}. {entry.limits} {others}", err=True)


def _become_service(chosen: Settings) -> NoReturn:
    grace = int(chosen.shutdown_grace_s) + 15
    root = Path(__file__).parents[2]
    arguments = ["-m", "bentoml", "serve", "service:ImageGen", "--working-dir", str(root)]
    os.execv(sys.executable, [sys.executable, *arguments, "--timeout-graceful-shutdown", str(grace)])  # noqa: S606

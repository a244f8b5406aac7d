"""`imagegen engine`: build, locate, export and import the engine."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Literal, NoReturn

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from imagegen import engine_build as engines
from imagegen.engine_build import EngineBuildError, OnProgress, Stage, transfer
from imagegen.engine_build.archive import parse_sha256
from imagegen.engine_build.plan import PINNED, Sdist
from imagegen.hardware import compatibility
from imagegen.models.catalog import Catalog
from imagegen.models.entry_files import CatalogError
from imagegen.settings import Settings, SettingsError, load

IN_MEGABYTES = {Stage.TOOLKIT: "Fetching (MB)", Stage.PACKING: "Package (MB)"}
PLAIN_LINE_PERCENT = 10
"""Without a terminal, a line is printed per this much progress."""


@click.group()
def engine() -> None:
    """Build, locate, export and import the engine (sd-server)."""


@engine.command()
@click.option(
    "--backend",
    type=click.Choice(["auto", "cpu", "cuda", "vulkan"]),
    default="auto",
    help="Default: auto: cuda where there is an NVIDIA GPU, vulkan where there is another GPU, else cpu.",
)
@click.option("--arch", help="CUDA architectures, such as 90 or 75,86,90 or all. Default: this card's.")
@click.option("--portable", is_flag=True, help="For other machines too (x86: AVX2, FMA, F16C), as in a container.")
@click.option(
    "--source",
    type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path),
    help="Source archive (tar) of another release of stable-diffusion.cpp, instead of the pinned one.",
)
@click.option("--sha256", help="The archive's SHA-256; required with --source.")
@click.option(
    "--without-channel", is_flag=True, help="With --source: leave out what stops a picture and sends previews."
)
@click.option("--jobs", "-j", type=click.IntRange(1, 1024), help="Parallel compilers. Default: by cores and memory.")
def build(
    backend: Literal["auto", "cpu", "cuda", "vulkan"],
    arch: str | None,
    portable: bool,
    source: Path | None,
    sha256: str | None,
    without_channel: bool,
    jobs: int | None,
) -> None:
    """Build sd-server from its pinned source unless it is built already, and print its path.

    Without options: for this machine, and no build if IMAGEGEN_SD_SERVER names a binary.
    """
    settings = _settings()
    given = _given_source(source, sha256, without_channel)
    if backend == "auto" and arch is None and not portable and given is PINNED:
        click.echo(build_with_bar(settings, jobs))
        return
    with _shown_and_stoppable() as on_progress:
        chosen = backend if backend != "auto" else "cuda" if arch is not None else engines.default_backend()
        options = replace(engines.options_for(chosen, arch, portable), channel=not without_channel)
        built = engines.build(settings.engine_dir, options, on_progress, jobs=jobs, sdist=given)
    if given is not PINNED:
        click.echo(f"Built from release {built.manifest.version}. To use it, set IMAGEGEN_SD_SERVER to it.", err=True)
        _print_misfits(settings, built.binary)
    elif settings.sd_server is not None:
        click.echo(f"Note: the service will use IMAGEGEN_SD_SERVER={settings.sd_server} instead.", err=True)
    click.echo(built.binary)


def _given_source(path: Path | None, sha256: str | None, without_channel: bool) -> engines.Archive | Sdist:
    """The source that the options name. Raises ClickException."""
    if path is None:
        if sha256 is not None or without_channel:
            raise click.UsageError("--sha256 and --without-channel belong to --source: name the archive too.")
        return PINNED
    if sha256 is None:
        raise click.UsageError("--source needs --sha256: the archive's checksum, from where it is published.")
    try:
        return engines.Archive(path, parse_sha256(sha256))
    except EngineBuildError as error:
        raise click.ClickException(str(error)) from error


def _print_misfits(settings: Settings, binary: Path) -> None:
    """Name the models that an engine from another source cannot draw as their entries say."""
    try:
        machine = compatibility.look_at_machine(settings.model_copy(update={"sd_server": binary}), None)
        catalog = Catalog.load(settings)
    except CatalogError as error:
        click.echo(f"Note: {error}", err=True)
        return
    for entry in map(catalog.get, catalog.names()):
        for found in (compatibility.too_old(entry, machine), *compatibility.engine_misfits(entry, machine)):
            if found is not None:
                click.echo(f"Note: {found.detail}", err=True)


def build_with_bar(settings: Settings, jobs: int | None = None) -> Path:
    """The engine for this machine, built if missing, with progress on stderr.

    Raises click.ClickException with the reason. Exits with status 130 when interrupted.
    """
    with _shown_and_stoppable() as on_progress:
        return engines.ensure(settings, on_progress, jobs)


def set_up_engine(settings: Settings) -> None:
    """Build the engine at the first start, with progress on stderr. Raises ClickException."""
    try:
        with _ended_by_signals(), _shown() as on_progress:
            engines.ensure(settings, on_progress)
    except EngineBuildError as error:
        raise click.ClickException(str(error)) from error


@engine.command()
def path() -> None:
    """Print the sd-server that the service would start."""
    try:
        click.echo(engines.resolve(_settings()))
    except EngineBuildError as error:
        raise click.ClickException(str(error)) from error


@engine.command()
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
def export(file: Path | None) -> None:
    """Pack the engine of this machine, with its libraries, into FILE for other machines; print FILE.

    Default: imagegen-engine-<build>.tar.gz in this folder. Build with --portable for machines with other processors.
    """
    settings = _settings()
    if settings.sd_server is not None:
        raise click.ClickException(
            "IMAGEGEN_SD_SERVER names an engine of your own, which this service did not build: copy it yourself, or "
            "unset IMAGEGEN_SD_SERVER."
        )
    with _shown_and_stoppable("Stopped. Nothing was written.") as on_progress:
        folder = engines.resolve(settings).parent
        target = file or Path(f"imagegen-engine-{folder.name}.tar.gz")
        transfer.export(folder, target, on_progress)
    click.echo(target)


@engine.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path))
def import_(file: Path) -> None:
    """Install the engine that `imagegen engine export` packed into FILE, if it runs here; print its path."""
    settings = _settings()
    with _shown_and_stoppable("Stopped. Nothing was installed.") as on_progress:
        built = transfer.install(file, settings.engine_dir, on_progress)
    if settings.sd_server is not None:
        click.echo(f"Note: the service will use IMAGEGEN_SD_SERVER={settings.sd_server} instead.", err=True)
    click.echo(built.binary)


def _settings() -> Settings:
    try:
        return load()
    except SettingsError as error:
        raise click.ClickException(str(error)) from error


@contextmanager
def _shown_and_stoppable(
    stopped: str = "Stopped. The engine is not built; the next build uses what has been fetched.",
) -> Iterator[OnProgress]:
    """The context of a build from a terminal: progress on standard error, errors as ClickException, and signals that
    also end the compilers."""
    try:
        with _ended_by_signals(), _shown() as on_progress:
            yield on_progress
    except EngineBuildError as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        click.echo(stopped, err=True)
        sys.exit(130)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Make SIGTERM and SIGHUP end a build as Ctrl-C does."""

    def end(_signum: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = {signum: signal.signal(signum, end) for signum in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


@contextmanager
def _shown() -> Iterator[OnProgress]:
    """Progress on standard error: a bar with the time left on a terminal, plain lines elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal or os.environ.get("TERM") == "dumb":
        yield _Lines()
        return
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as progress:
        yield _Bar(progress)


class _Lines:
    """Prints one line per message, and one per PLAIN_LINE_PERCENT of progress."""

    def __init__(self) -> None:
        self._next_percent = PLAIN_LINE_PERCENT

    def __call__(self, stage: Stage, done: int, total: int, message: str) -> None:
        if total == 0:
            self._next_percent = PLAIN_LINE_PERCENT  # the next stage counts from 0
            click.echo(message, err=True)
        elif 100 * done >= self._next_percent * total:
            percent = 100 * done // total
            self._next_percent = percent - percent % PLAIN_LINE_PERCENT + PLAIN_LINE_PERCENT
            unit = "MB" if stage in IN_MEGABYTES else "steps"
            click.echo(f"{stage.capitalize()}: {done} of {total} {unit} ({percent} %)", err=True)


class _Bar:
    """Prints the messages, with a bar below them for each stage that has a count."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[Stage, TaskID] = {}

    def __call__(self, stage: Stage, done: int, total: int, message: str) -> None:
        if total == 0:
            self._progress.console.print(message, markup=False, highlight=False, soft_wrap=True)
            return
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(IN_MEGABYTES.get(stage, "Compiling"), total=total)
        self._progress.update(self._tasks[stage], completed=done, total=total)

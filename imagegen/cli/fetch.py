"""`imagegen models fetch`: fetch a model's files from the hub, with a progress bar. An interrupted fetch resumes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from threading import Event

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task
from rich.text import Text

from imagegen.cli import candidates
from imagegen.models.catalog import Catalog
from imagegen.models.download.fetch import OTHER_DOWNLOAD
from imagegen.models.download.fetch import fetch as fetch_files
from imagegen.models.download.hub import Hub, HubError
from imagegen.models.download.plan import Plan
from imagegen.models.download.plan import plan as plan_files
from imagegen.models.download.progress import Fetching, size
from imagegen.models.download.retry import FetchError, RetryPolicy
from imagegen.models.download.verify import odd_sizes
from imagegen.models.entry_files import CatalogError
from imagegen.models.licences import question
from imagegen.models.weights import Weights
from imagegen.schemas import Refused
from imagegen.settings import Settings, load


@click.command()
@click.argument("name", shell_complete=candidates.catalog_models)
@click.option("--yes", is_flag=True, help="Accept the licence without being asked.")
@click.option("--dry-run", is_flag=True, help="List the files, and fetch none.")
def fetch(name: str, yes: bool, dry_run: bool) -> None:
    """Fetch a model's files from the hub. An interrupted fetch resumes.

    \b
    HF_TOKEN         a token, for repositories that ask for one
    HF_ENDPOINT      another hub or a mirror
    HF_HUB_OFFLINE   1: nothing is fetched
    """
    settings, hub = load(), Hub()
    try:
        entry = Catalog.load(settings).weights(name)
        if entry.made_by is not None:
            raise click.ClickException(f"{name} is not on a hub: imagegen models make {name}")
        retry_policy = RetryPolicy(
            lambda trouble, s: click.echo(f"{trouble}; the next try is in {s:.0f} s", err=True), Event()
        )
        todo = plan_files(entry, settings, hub, retry_policy)
        if odd := odd_sizes(entry, settings, hub, retry_policy):
            raise click.ClickException("\n".join(odd))
        whole = not todo.items
        if not whole:
            _print_plan(entry, todo)
        if not whole and not dry_run:
            _agree(entry, todo, yes)
            todo = fetch_with_bar(entry, settings, hub)
    except Refused as refused:
        raise click.ClickException(refused.detail) from None
    except (CatalogError, HubError, FetchError) as failed:
        raise click.ClickException(str(failed)) from None
    for remark in todo.remarks:
        click.echo(f"note: {remark}", err=True)
    if whole or not dry_run:
        click.echo(_end(entry, settings, whole))


def _end(entry: Weights, settings: Settings, whole: bool) -> str:
    """The final message. Without an optional file the model is usable, but not complete."""
    nothing = "; there was nothing to fetch" if whole else ""
    if absent := entry.absent(settings):
        names = ", ".join(file.file for file in absent)
        return f"{entry.name} can be used, without {names}: {entry.folder(settings)}{nothing}"
    return f"{entry.name} is complete: {entry.folder(settings)}{nothing}"


def _print_plan(entry: Weights, todo: Plan) -> None:
    """Print the files to fetch, their sources, sizes and licences."""
    for item in todo.items:
        checked = "" if item.sha256 or item.git_sha1 else ", no checksum"
        click.echo(f"{item.repo} {item.path} at {item.commit[:10]}: {size(item.size_bytes)}{checked}", err=True)
    click.echo(f"{size(todo.size_bytes)} in all.", err=True)
    where = f" ({entry.licence.url})" if entry.licence.url else ""
    click.echo(f"Licence: {entry.licence.name}{where}", err=True)
    for repo, stated in todo.licences.items():
        click.echo(f"  {repo} states: {stated}", err=True)


def _agree(entry: Weights, todo: Plan, yes: bool) -> None:
    """Ask the user to accept a licence that may restrict use. Raises ClickException or Abort if not accepted."""
    asked = question(entry, todo.licences)
    if yes or asked is None:
        return
    if not sys.stdin.isatty():
        raise click.ClickException(f"{asked} Then say so: imagegen models fetch {entry.name} --yes")
    click.confirm(asked, abort=True, err=True)


class _Far(ProgressColumn):
    """The current progress as text, redrawn at least every `max_refresh` seconds also if no data arrives."""

    max_refresh = 0.5

    def __init__(self, words: Callable[[Fetching], str]) -> None:
        super().__init__()
        self._words = words

    def render(self, task: Task) -> Text:
        return Text(self._words(task.fields["now"].seen(time.monotonic())))


def fetch_with_bar(entry: Weights, settings: Settings, hub: Hub) -> Plan:
    """Fetch with progress on stderr. Raises FetchError."""
    console = Console(stderr=True)
    columns = (_Far(str), BarColumn(), _Far(_left))
    queued = False
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=1.0, now=Fetching("", 0, 0))

        def show(now: Fetching) -> None:
            nonlocal queued
            if now.trouble == OTHER_DOWNLOAD and not queued:
                queued = True
                click.echo(f"{now}.".capitalize(), err=True)
            elif now.trouble not in {None, OTHER_DOWNLOAD}:
                click.echo(f"{now}.", err=True)
            bar.update(task, completed=now.fraction or 0.0, now=now)

        return fetch_files(entry, settings, hub, show, Event())


def _left(now: Fetching) -> str:
    return "" if now.left_s is None else f"{_clock(now.left_s)} left"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"

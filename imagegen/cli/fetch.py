"""`imagegen models fetch`: a model's files from the hub, with a progress bar; interrupted, it goes on the next time."""

from __future__ import annotations

import sys
from threading import Event

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from imagegen.models.catalog import Catalog, CatalogError
from imagegen.models.entry import Entry
from imagegen.models.fetch import FetchError, Fetching, Plan, size
from imagegen.models.fetch import fetch as fetch_files
from imagegen.models.fetch import plan as plan_files
from imagegen.models.hub import Hub, HubError
from imagegen.schemas import Refused
from imagegen.settings import Settings, load


@click.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Accept the licence without being asked.")
@click.option("--dry-run", is_flag=True, help="Say what would be fetched, and fetch nothing.")
def fetch(name: str, yes: bool, dry_run: bool) -> None:
    """Fetch a model's files from the hub; what has come is kept, so that a second try goes on.

    \b
    HF_TOKEN         a token, for repositories that ask for one
    HF_ENDPOINT      another hub or a mirror
    HF_HUB_OFFLINE   1: nothing is fetched
    """
    settings, hub = load(), Hub()
    try:
        entry = Catalog.load(settings).get(name)
        if entry.made_by is not None:
            raise click.ClickException(f"{name} is not on a hub: imagegen models make {name}")
        todo = plan_files(entry, settings, hub)
        if todo.items:
            _tell(entry, todo)
        if todo.items and not dry_run:
            _agree(entry, yes)
            todo = fetch_with_bar(entry, settings, hub)
    except Refused as refused:
        raise click.ClickException(refused.detail) from None
    except (CatalogError, HubError, FetchError) as failed:
        raise click.ClickException(str(failed)) from None
    for remark in todo.remarks:
        click.echo(f"note: {remark}", err=True)
    if not dry_run:
        click.echo(f"{name} is complete: {entry.folder(settings)}")


def _tell(entry: Entry, todo: Plan) -> None:
    """What comes, from where, and under which terms."""
    for item in todo.items:
        checked = "" if item.sha256 or item.git_sha1 else ", no checksum"
        click.echo(f"{item.repo} {item.path} at {item.commit[:10]}: {size(item.size_bytes)}{checked}", err=True)
    click.echo(f"{size(todo.size_bytes)} in all.", err=True)
    where = f" ({entry.licence.url})" if entry.licence.url else ""
    click.echo(f"Licence: {entry.licence.name}{where}", err=True)
    for repo, stated in todo.licences.items():
        click.echo(f"  {repo} states: {stated}", err=True)


def _agree(entry: Entry, yes: bool) -> None:
    """A licence that is not known to allow every use is accepted by a person, or nothing is fetched."""
    if entry.licence.commercial or yes:
        return
    forbids = "does not allow commercial use" if entry.licence.commercial is False else "may limit what you do"
    question = f"This licence {forbids}. Have you read it, and do you accept it?"
    if not sys.stdin.isatty():
        raise click.ClickException(f"{question} Then say so: imagegen models fetch {entry.name} --yes")
    click.confirm(question, abort=True, err=True)


def fetch_with_bar(entry: Entry, settings: Settings, hub: Hub) -> Plan:
    """Fetch with progress on stderr. Raises FetchError."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[left]}"))
    said = False
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("asking the hub", total=1.0, left="")

        def tell(now: Fetching) -> None:
            nonlocal said
            if now.waits and not said:
                said = True
                click.echo(f"{now}.".capitalize(), err=True)
            left = "" if now.left_s is None else f"{_clock(now.left_s)} left"
            bar.update(task, description=str(now), completed=now.fraction or 0.0, left=left)

        return fetch_files(entry, settings, hub, tell, Event())


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"

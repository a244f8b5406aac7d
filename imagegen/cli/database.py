"""`imagegen database status | upgrade | copy`: the database's schema, and the way from SQLite to Postgres."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from contextlib import closing

import click

from imagegen.settings import Settings, load
from imagegen.storage import postgres_look
from imagegen.storage.copying import copy_rows
from imagegen.storage.database import CLAIM_WAIT_S, lock_state_folder
from imagegen.storage.errors import StateError, StateInUse
from imagegen.storage.migrations import SCHEMA_VERSION
from imagegen.storage.sqlite import open_sqlite

BEHIND, NEWER = 3, 4
"""Exit codes of `status`."""


@click.group()
def database() -> None:
    """The database of jobs: its schema, and its upgrade before a rollout.

    It is the Postgres database of IMAGEGEN_DATABASE_URL, or the state folder's SQLite file.
    """


@database.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(as_json: bool) -> None:
    """Show the database and its schema. Changes nothing.

    Exit code 0 if this version can use it as it is, 3 if it has to be upgraded first (a start of the service does
    that too), 4 if a newer version upgraded it and this one cannot use it.
    """
    settings = load()
    try:
        shown = _on_sqlite(settings) if settings.database_url is None else _on_postgres(settings.database_url)
    except StateError as failure:
        raise click.ClickException(str(failure)) from None
    if as_json:
        click.echo(json.dumps(shown, indent=2))
    else:
        schema = f"schema {shown['schema']}" if shown["schema"] else "no tables yet"
        click.echo(f"{shown['database']}: {schema}; this version knows schema {SCHEMA_VERSION}.")
        click.echo("A service uses it." if shown["in_use"] else "No service uses it.")
    sys.exit(0 if shown["state"] == "current" else BEHIND if shown["state"] == "behind" else NEWER)


@database.command()
def upgrade() -> None:
    """Create the tables, or bring them to this version's schema. Does nothing if they have it already.

    Two upgrades at once wait for each other. On Postgres a service may go on meanwhile; if it could not use the new
    schema, nothing is changed.
    """
    settings = load()
    try:
        before = _upgrade_sqlite(settings) if settings.database_url is None else _upgrade(settings.database_url)
    except StateError as failure:
        raise click.ClickException(str(failure)) from None
    if before < SCHEMA_VERSION:
        click.echo(f"The database was brought from schema {before} to {SCHEMA_VERSION}.")
    else:
        click.echo(f"The database has schema {before} already.")


@database.command()
def copy() -> None:
    """Copy all rows of the state folder's SQLite file into the Postgres database of IMAGEGEN_DATABASE_URL.

    The Postgres database must have no jobs and pictures. No service may run on either. The SQLite file stays as it is,
    and the pictures stay in the state folder, where the service on Postgres finds them.
    """
    settings = load()
    if settings.database_url is None:
        raise click.ClickException("Set IMAGEGEN_DATABASE_URL to the database that the rows are copied to.")
    try:
        with lock_state_folder(settings.home, wait_s=0.0):
            if not settings.database.exists():
                raise StateError(f"There is nothing to copy: {settings.database} does not exist.")
            asyncio.run(_bring_up_to_date(settings))
            copied = copy_rows(settings.database, settings.database_url)
    except StateError as failure:
        raise click.ClickException(str(failure)) from None
    click.echo("Copied: " + ", ".join(f"{count} {table}" for table, count in copied.items()) + ".")


def _on_postgres(url: str) -> dict[str, object]:
    found = postgres_look.look(url)
    version = found.version
    state = "behind" if version.schema < SCHEMA_VERSION else "current" if version.usable else "newer"
    return _shown(f"Postgres {found.server}, {found.where}", version.schema, state, found.in_use)


def _on_sqlite(settings: Settings) -> dict[str, object]:
    path = settings.database
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            schema = int(connection.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.Error as refused:
        if path.exists():
            raise StateError(f"The database {path} cannot be read ({refused}).") from None
        schema = 0
    state = "behind" if schema < SCHEMA_VERSION else "current" if schema == SCHEMA_VERSION else "newer"
    return _shown(f"SQLite, {path}", schema, state, _holds(settings))


def _holds(settings: Settings) -> bool:
    from imagegen.doctor.state import is_held

    return is_held(settings)


def _shown(name: str, schema: int, state: str, in_use: bool) -> dict[str, object]:
    return {"database": name, "schema": schema, "program_schema": SCHEMA_VERSION, "state": state, "in_use": in_use}


def _upgrade(url: str) -> int:
    return postgres_look.upgrade(url).schema


def _upgrade_sqlite(settings: Settings) -> int:
    """Upgrade the file while no service runs. Returns the schema before."""
    try:
        lock = lock_state_folder(settings.home, wait_s=CLAIM_WAIT_S)
    except StateInUse as held:
        raise StateInUse(f"{held} A service upgrades its SQLite file itself when it starts.") from None
    with lock:
        before = int(str(_on_sqlite(settings)["schema"]))
        asyncio.run(_bring_up_to_date(settings))
        return before


async def _bring_up_to_date(settings: Settings) -> None:
    await (await open_sqlite(settings.database)).close()

"""Databases of the tests' Postgres server, opened as the service opens them, and with other schemas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from postgres import PostgresServer

from imagegen.storage import postgres_look, postgres_schema
from imagegen.storage.database import Database, open_database

PASSWORD = "pass-word"
NOTE = {"a": "note"}


def opened(url: str) -> Any:
    return open_database(Path("unused"), url)


async def write(database: Database, value: dict[str, Any]) -> None:
    """Write the note `seen`, with the errors that Notes.keep would only log."""
    async with database.writing() as connection:
        await connection.run_sync(postgres_schema.write_note, "seen", value)


def of_a_newer_version(server: PostgresServer) -> str:
    return noted(server, version=99, oldest=99)


def noted(server: PostgresServer, **version: int) -> str:
    """A database whose schema is noted as `version`."""
    url = server.new_schema()
    postgres_look.upgrade(url)
    with postgres_look.connected(url) as connection, connection.begin():
        postgres_schema.write_note(connection, "schema", version)
    return url

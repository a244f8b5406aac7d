"""Reads and upgrades a Postgres database without the service: for the command line and the doctor."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, NullPool, create_engine, text
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from imagegen.storage import postgres_schema as schema
from imagegen.storage.errors import StateInUse
from imagegen.storage.migrations import OLDEST_PROGRAM, SCHEMA_VERSION
from imagegen.storage.postgres_errors import missing_driver, start_failure
from imagegen.storage.postgres_schema import Version
from imagegen.storage.postgres_url import connect_args, driver_url, replace_nul, shown


@dataclass(frozen=True)
class Look:
    """What a database says of itself. where: HOST:PORT/NAME. server: its version. in_use: by a service."""

    where: str
    server: str
    version: Version
    in_use: bool


BOOT_WAIT_S = 30.0
"""How long to wait for a server that answers "the database system is starting up"."""


def is_booting(refused: OperationalError) -> bool:
    return "starting up" in str(refused.orig)


@contextmanager
def connected(url_text: str) -> Iterator[Connection]:
    """A connection. Raises StateError, with a sentence, for whatever the database refuses inside the block too."""
    try:
        with _engine(url_text).connect() as connection:
            yield connection
    except SQLAlchemyError as refused:
        raise start_failure(shown(driver_url(url_text)), refused) from None


def driver_connection(url_text: str) -> Any:
    """A connection of the driver's own kind, for plain statements; the caller closes it. Raises StateError."""
    try:
        pooled = _engine(url_text).raw_connection()
    except SQLAlchemyError as refused:
        raise start_failure(shown(driver_url(url_text)), refused) from None
    connection = pooled.driver_connection
    pooled.detach()
    return connection


def _engine(url_text: str) -> Engine:
    url = driver_url(url_text)
    try:
        engine = create_engine(url, poolclass=NullPool, connect_args=connect_args(url), hide_parameters=True)
    except ModuleNotFoundError as missing:
        raise missing_driver(missing) from None
    replace_nul(engine)
    return engine


def check(url_text: str) -> None:
    """Check before the service listens that it can use the database. Waits for a server that is starting.

    Raises StateError.
    """
    deadline = time.monotonic() + BOOT_WAIT_S
    while True:
        try:
            with _engine(url_text).connect() as connection:
                schema.check_encoding(connection)
                schema.check_usable(schema.read_version(connection))
                return
        except OperationalError as refused:
            if not is_booting(refused) or time.monotonic() > deadline:
                raise start_failure(shown(driver_url(url_text)), refused) from None
        except SQLAlchemyError as refused:
            raise start_failure(shown(driver_url(url_text)), refused) from None
        time.sleep(0.5)


def look(url_text: str) -> Look:
    """Connect and read the version. Changes nothing. Raises StateError."""
    with connected(url_text) as connection:
        server = connection.execute(text("SHOW server_version")).scalar_one().split()[0]
        version = schema.read_version(connection)
        return Look(shown(driver_url(url_text)), server, version, schema.is_in_use(connection))


def upgrade(url_text: str) -> Version:
    """Bring the database to this program's schema. Returns the version before.

    Raises StateError; StateInUse if a service uses the database that could not go on with the new schema.
    """
    with connected(url_text) as connection, connection.begin():
        schema.check_encoding(connection)
        before = schema.read_version(connection)
        if 0 < before.schema < OLDEST_PROGRAM and schema.is_in_use(connection):
            raise StateInUse(
                f"A service of an older imagegen uses the database, and cannot go on with schema {SCHEMA_VERSION}. "
                "Stop it first. Nothing was changed."
            )
        return schema.upgrade(connection)

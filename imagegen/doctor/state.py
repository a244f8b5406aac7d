"""Checks the state folder: its holder, write access, the database, the clock, and leftovers of a crash."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import math
import os
import re
import sqlite3
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil

from imagegen.doctor.finding import Finding, fail, ok, warn
from imagegen.images.folder_note import read_note
from imagegen.settings import Settings
from imagegen.storage import postgres_look
from imagegen.storage.errors import StateError
from imagegen.storage.migrations import SCHEMA_VERSION
from imagegen.storage.permissions import others_may
from imagegen.storage.postgres_schema import check_usable

CLOCK_SLACK_S = 60.0
FIRST_YEAR = 2025
"""The service's libraries are newer. A clock with an earlier year has lost its battery."""
_PICTURE = re.compile(r"([0-9a-f]{32})\.png")
_PART = re.compile(r"\.[0-9a-f]{32}\.[0-9a-f]{8}\.tmp")


def service_pids(settings: Settings) -> set[int]:
    """The process that holds the state folder's lock, and its parent (the supervisor). Empty if the lock is free."""
    lock = settings.home / "lock"
    try:
        inode = lock.stat().st_ino
        rows = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return set()
    pids = set()
    for row in rows:
        # 1: FLOCK ADVISORY WRITE 1234 08:01:567 0 EOF
        columns = row.split()
        if columns[1] == "FLOCK" and columns[5].rpartition(":")[2] == str(inode):
            pids.add(int(columns[4]))
    for pid in list(pids):
        with contextlib.suppress(psutil.Error):
            pids.add(psutil.Process(pid).ppid())
    return pids - {0, 1}


def folder(settings: Settings, pids: set[int]) -> Iterable[Finding]:
    """Check whether the state folder is usable, and which process holds it."""
    home = settings.home
    if not home.exists():
        place = home.parent
        while not place.exists():
            place = place.parent
        if os.access(place, os.W_OK):
            yield ok("state folder", f"{home} will be made at the first start.")
        else:
            yield fail("state folder", f"{home} cannot be made: {place} is not writable.", "Set IMAGEGEN_HOME.")
    elif not home.is_dir() or not os.access(home, os.W_OK | os.X_OK):
        yield fail(
            "state folder", f"{home} is not a folder that this user can write.", "Make it one, or set IMAGEGEN_HOME."
        )
    elif pids:
        named = ", ".join(str(pid) for pid in sorted(pids))
        yield from _holder(pids, f"{home} is held by a running service (processes {named})")
    else:
        yield ok("state folder", f"{home}; no service is running on it.")


def privacy(settings: Settings) -> Iterable[Finding]:
    """Check whether other users of this machine can access the database, which contains every prompt."""
    if others_may(settings.home) and others_may(settings.database):
        what = f"{settings.home} and its database, which holds all prompts, can be used by other users of this machine."
        yield warn("state folder", what, f"Start the service once, or chmod -R go= {settings.home}")


def _holder(pids: set[int], held: str) -> Iterable[Finding]:
    listens = any(
        connection.status == psutil.CONN_LISTEN and connection.pid in pids
        for connection in psutil.net_connections("tcp")
    )
    if listens:
        yield ok("state folder", f"{held}.")
    else:
        yield fail(
            "state folder",
            f"{held} that listens on no port: it hangs, or is only starting. No other service can start on it.",
            "Look again in a minute; if it is still so, end those processes.",
        )


def is_held(settings: Settings) -> bool:
    """Whether a process holds the state folder's lock. Tries the lock and releases it at once."""
    try:
        with (settings.home / "lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def database(settings: Settings, held: bool) -> tuple[Any, Iterable[Finding]]:
    """The database, opened for reads, None if it is missing, damaged or of an unknown schema, and the findings.

    held: a service runs on the state folder. The connection is sqlite3's or psycopg's: both have `execute`.
    """
    if settings.database_url is not None:
        return _server(settings.database_url, held)
    path = settings.database
    if not path.exists():
        return None, [ok("database", "There is none yet: the first start makes it.")]
    try:
        connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=10)
        verdict = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.Error as damaged:
        verdict, version = str(damaged), 0
    if verdict != "ok":
        do = "Put a backup in its place, or move it away to start with an empty queue (docs/operations.md)."
        return None, [fail("database", f"{path} is damaged: {verdict}.", do)]
    if version > SCHEMA_VERSION:
        what = f"{path} was last used by a newer imagegen (schema {version}; this one knows {SCHEMA_VERSION})."
        return None, [fail("database", what, "Install that version again, or name another folder with IMAGEGEN_HOME.")]
    return connection, [ok("database", f"{path} is whole (schema {version}).")]


def _server(url: str, held: bool) -> tuple[Any, Iterable[Finding]]:
    """As `database`, for Postgres."""
    try:
        found = postgres_look.look(url)
        check_usable(found.version)
        if not found.version.schema:
            return None, [
                ok("database", f"{found.where} (Postgres {found.server}) is empty: the first start fills it.")
            ]
        connection = postgres_look.driver_connection(url)
    except StateError as failure:
        what, _, do = str(failure).rpartition(". ")
        return None, [fail("database", f"{what}.", do)]
    if found.in_use and not held:
        what = f"{found.where} is used by a service on another state folder, so none can start with it here."
        return connection, [fail("database", what, "Stop that service, or set another IMAGEGEN_DATABASE_URL.")]
    return connection, [ok("database", f"{found.where} (Postgres {found.server}), schema {found.version.schema}.")]


def clock(connection: Any, now: float | None = None) -> Iterable[Finding]:
    """Check whether this machine's clock is plausible: job times, expiry and certificates depend on it."""
    now = time.time() if now is None else now
    today = datetime.datetime.fromtimestamp(now, datetime.UTC)
    newest = 0.0
    if connection is not None:
        row = connection.execute("SELECT max(created_at) FROM jobs").fetchone()
        newest = row[0] or 0.0
    do = "Set it, best by NTP (`timedatectl set-ntp true`)."
    if today.year < FIRST_YEAR:
        yield fail("clock", f"This machine's clock says {today:%Y-%m-%d}, which cannot be.", do)
    elif newest > now + CLOCK_SLACK_S:
        ahead = datetime.datetime.fromtimestamp(newest, datetime.UTC)
        yield fail(
            "clock",
            f"The clock says {today:%Y-%m-%d %H:%M} UTC, and the newest job was made at {ahead:%Y-%m-%d %H:%M}: it was "
            "set back, or was wrong then. Pictures expire at the wrong time.",
            do,
        )
    else:
        yield ok("clock", f"It is {today:%Y-%m-%d %H:%M} UTC.")


def leftovers(settings: Settings, connection: Any, held: bool) -> Iterable[Finding]:
    """Report files without a row, and rows without a file. While a service runs only the latter can be checked."""
    since = _rows_since(settings)
    on_disk, parts = _files(settings.images_dir)
    known: set[str] = set()
    if connection is not None:
        known = {row[0] for row in connection.execute("SELECT id FROM images WHERE expired_at IS NULL")}
    lost = known - on_disk
    if connection is not None and lost:
        yield warn(
            "pictures",
            f"{len(lost)} stored pictures have no file any more, {min(lost)} among them: they answer image_damaged.",
            f"If {settings.images_dir} was restored from a backup, restore the database with it (docs/operations.md).",
        )
    strays = [name for name in on_disk - known if _written(settings.images_dir / f"{name}.png") >= since]
    orphans = 0 if held or connection is None else len(strays) + len(parts)
    if orphans:
        yield warn(
            "leftovers",
            f"{orphans} files in {settings.images_dir} belong to no picture: a crash left them.",
            "The next start removes them.",
        )
    else:
        yield ok("leftovers", f"{len(on_disk)} pictures; no file is left of a crash.")


def _rows_since(settings: Settings) -> float:
    """Since when the database has the rows of the pictures; infinity if the next start is with another database."""
    note = read_note(settings.images_dir)
    return note.since if (note.identity == "sqlite") == (settings.database_url is None) else math.inf


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # removed since it was listed
        return 0.0


def _files(folder: Path) -> tuple[set[str], list[str]]:
    """Ids of the pictures in the folder, and names of partial files."""
    try:
        names = [entry.name for entry in folder.iterdir()]
    except OSError:
        return set(), []
    pictures = {match[1] for name in names if (match := _PICTURE.fullmatch(name))}
    return pictures, [name for name in names if _PART.fullmatch(name)]


def engines(settings: Settings, pids: set[int]) -> Iterable[Finding]:
    """Report orphaned engine processes: they run in the state folder's `engine`, hold memory and have no service."""
    workdir = str(settings.home / "engine")
    stray = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.cwd() == workdir and not pids & {parent.pid for parent in process.parents()}:
                stray.append(process.pid)
    if stray:
        named = " ".join(map(str, sorted(stray)))
        yield fail(
            "engines",
            f"Engine processes that no service owns are running: {named}. They hold memory, of the GPU too.",
            f"kill -9 {named}",
        )
    else:
        yield ok("engines", "No engine process is left of a crash.")

"""File descriptors: the process's limit, the number that connections may use, and detection of shortages.

One worker process serves all connections, holds the database and starts the engine. Connections may use the limit
minus RESERVED, so that clients cannot exhaust the descriptors that jobs need.
"""

from __future__ import annotations

import errno
import os
import resource
import sqlite3

from imagegen.settings import Settings, SettingsError

MOST_WANTED = 65_536
"""Upper bound of the soft limit. Containers set a hard limit of 2**30, and a child process that closes every possible
descriptor would then take minutes."""
MOST_BODY_FILES = 96
"""Concurrent request bodies in temporary files; each needs a descriptor."""
SLACK = 32
"""Descriptors of connections that are being closed in favour of new ones."""
OWN = 128
"""Upper bound of the worker's own descriptors: 12 after a start (/proc/PID/fd), up to 17 database connections of 3
files each (SQLAlchemy's pool of 5 with an overflow of 10, and READ_THREADS), the engine's pipes and connections, and
picture files."""
RESERVED = OWN + MOST_BODY_FILES + SLACK
DEFAULT_CONNECTIONS = 1000
FEWEST_CONNECTIONS = 32

_SHORT = {errno.EMFILE, errno.ENFILE}


def raise_limit() -> int:
    """Raise this process's RLIMIT_NOFILE to its hard limit (at most MOST_WANTED). Returns the new limit.

    Child processes inherit it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_WANTED if hard == resource.RLIM_INFINITY else min(hard, MOST_WANTED)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return MOST_WANTED if soft == resource.RLIM_INFINITY else soft


def connections_allowed(settings: Settings, limit: int) -> int:
    """The maximum number of open connections for a process that may open `limit` descriptors.

    Raises SettingsError if the limit is too low for IMAGEGEN_MAX_CONNECTIONS, or for FEWEST_CONNECTIONS.
    """
    left, asked = limit - RESERVED, settings.max_connections
    if asked is not None and asked > left:
        raise SettingsError(
            f"IMAGEGEN_MAX_CONNECTIONS={asked}: this process may open {limit} files, and {RESERVED} of them are "
            f"reserved. Lower the setting to {max(left, 0)}, or raise the hard limit (ulimit -Hn, LimitNOFILE=)."
        )
    if left < FEWEST_CONNECTIONS:
        raise SettingsError(
            f"This process may open {limit} files; the service needs at least {RESERVED + FEWEST_CONNECTIONS}. "
            "Raise the hard limit (ulimit -Hn, LimitNOFILE=)."
        )
    return min(left, DEFAULT_CONNECTIONS) if asked is None else asked


def are_short(error: BaseException | None) -> bool:
    """Whether a lack of file descriptors (EMFILE, ENFILE) caused `error`.

    SQLite reports every failure to open a file with the same code, which counts only if no descriptor is free now.
    """
    seen: set[int] = set()
    pending = [error]
    while pending:
        one = pending.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, OSError) and one.errno in _SHORT:
            return True
        if isinstance(one, sqlite3.OperationalError) and "unable to open" in str(one) and not _one_is_free():
            return True
        pending += [one.__cause__, one.__context__, getattr(one, "orig", None)]
    return False


def _one_is_free() -> bool:
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        return False
    return True

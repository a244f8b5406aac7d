"""Converts the values of settings that have a form of their own: addresses, paths, times, pairs of files.

Each function returns the value as the service uses it. It raises ValueError, with what to write instead.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from urllib.parse import urlsplit


class SettingsError(Exception):
    """A setting has a value the service cannot run with. The message is for the person who set it."""


_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_WITH_PORT = re.compile(r"(?P<address>[0-9.]+|localhost|\[[^\]]*\]):(?P<port>[0-9]+)", re.IGNORECASE)


def listen_address(text: str) -> str:
    """The IP address that `text` means: `localhost` and an IPv6 address in brackets are understood too.

    Raises ValueError that says what to write instead, for an address with a port or a scheme, and for a host name.
    """
    given = text.strip()
    bare = _SCHEME.sub("", given).split("/")[0]
    with_port = _WITH_PORT.fullmatch(bare)
    address = _ip_address(with_port["address"] if with_port else bare)
    if address is not None and with_port is not None:
        raise ValueError(f"must be an address without a port: {address}, with IMAGEGEN_PORT={with_port['port']}")
    if address is not None and bare != given:
        raise ValueError(f"must be an address without a scheme or path: {address}")
    if address is None:
        raise ValueError("must be an IP address of this machine, such as 127.0.0.1 or ::1; 0.0.0.0 and :: mean all")
    return address


def _ip_address(text: str) -> str | None:
    if text.lower() == "localhost":
        return "127.0.0.1"
    try:
        return str(ipaddress.ip_address(text[1:-1] if text.startswith("[") and text.endswith("]") else text))
    except ValueError:
        return None


def absolute(path: str | Path) -> Path:
    """The path without `~`, from this folder on. Raises ValueError for an empty one and for an unknown user's `~`."""
    if not str(path).strip():
        raise ValueError("must be a path; unset it for the default")
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError:
        raise ValueError("begins with the home folder of an unknown user: write the full path") from None


def idle_timeout(text: str) -> str:
    """`auto`, `never`, or seconds from 0 to below 10**9 as they are written."""
    value = text.strip().lower()
    if value in {"auto", "never"}:
        return value
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 10**9:  # NaN and infinity fail here too
        raise ValueError("must be auto, never, or seconds (0 unloads at once)")
    return value


def tls_files(text: str) -> str:
    """`off`, `auto`, or `CERT,KEY` with absolute paths."""
    if text.strip().lower() in {"off", "auto"}:
        return text.strip().lower()
    files = [part.strip() for part in text.split(",") if part.strip()]
    if len(files) != 2:
        raise ValueError("must be off, auto, or CERT,KEY (two PEM files)")
    return ",".join(str(absolute(file)) for file in files)


def database_url(text: str) -> str:
    """A URL of a Postgres database, as it is written. The errors do not repeat it: it may hold a password."""
    example = "postgresql://USER:PASSWORD@HOST/DATABASE"
    try:
        parts = urlsplit(text.strip())
        _ = parts.port  # raises ValueError for one that is no number
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in {"postgresql", "postgres"}:
        raise ValueError(f"must be {example}; write @ : / ? # % in a password as %40 %3A %2F %3F %23 %25")
    if parts.netloc.count("@") > 1 or "@" in parts.path or "/" in parts.path[1:]:
        raise ValueError("must have @ : / ? # % in its password as %40 %3A %2F %3F %23 %25")
    if len(parts.path) < 2:
        raise ValueError(f"must name a database, as in {example}")
    return text.strip()

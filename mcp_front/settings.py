"""The settings of the front, read from the environment once at the start.

Bundles and client configurations pass optional values as empty or as the literal `${user_config.x}`. Both mean
"not set".
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from imagegen_client import trust

PREFIX = "IMAGEGEN_"
T = TypeVar("T")
Complaint = Callable[[str], None]

WAIT_WITH_PROGRESS_S = 230.0
"""Claude Desktop drops a call after about 240 s, even one that reports progress."""

WAIT_SILENT_S = 50.0
"""MCP clients that ask for no progress commonly give up after 60 s."""


class SettingsError(Exception):
    """A setting has an invalid value. The message is for the person who set it."""


@dataclass(frozen=True)
class Settings:
    """The settings. Times in seconds. The repr omits `token`, so that it cannot reach a log."""

    url: str = "http://127.0.0.1:8765"
    token: str | None = None
    tls_sha256: str | None = None
    tls_ca: Path | None = None
    output_dir: Path | None = None
    roots: tuple[Path, ...] | None = None
    wait_s: float | None = None
    warm: bool = False
    host: str = "127.0.0.1"
    port: int = 8766
    tls: tuple[Path, Path] | None = None
    allowed_hosts: tuple[str, ...] = ()
    public_url: str | None = None
    front_url: str | None = None
    auth_server: str | None = None
    allow_anonymous: bool = False

    def __repr__(self) -> str:
        shown = (f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if f.name != "token")
        return f"Settings({', '.join(shown)})"

    @property
    def download_base(self) -> str:
        """The service's URL as the user's machine reaches it."""
        return self.public_url or self.url

    @property
    def loopback_only(self) -> bool:
        """Whether the HTTP front listens on a loopback address only."""
        return is_loopback(self.host)

    def call_budget_s(self, *, reports_progress: bool) -> float:
        """How long one tool call may wait for a picture, in seconds."""
        if self.wait_s is not None:
            return self.wait_s
        return WAIT_WITH_PROGRESS_S if reports_progress else WAIT_SILENT_S


def is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the environment. Raises SettingsError with one line per wrong variable."""
    source = os.environ if environ is None else environ
    problems: list[str] = []

    def take(name: str) -> str | None:
        value = source.get(PREFIX + name, "").strip()
        return None if not value or value.startswith("${user_config.") else value

    def wrong(name: str, said: str) -> None:
        problems.append(f"{PREFIX}{name}: {said}")

    def read(name: str, convert: Callable[[str | None, Complaint], T]) -> T:
        return convert(take(name), partial(wrong, name))

    settings = Settings(
        url=read("URL", _url) or Settings.url,
        token=read("TOKEN", _token),
        tls_sha256=read("TLS_SHA256", _fingerprint),
        tls_ca=read("TLS_CA", _path),
        output_dir=read("OUTPUT_DIR", _path),
        roots=read("MCP_ROOTS", _paths),
        wait_s=read("MCP_WAIT_S", _number(1, 3600)),
        warm=read("MCP_WARM", _switch),
        host=read("MCP_HOST", _host) or Settings.host,
        port=int(read("MCP_PORT", _number(1, 65535)) or Settings.port),
        tls=read("MCP_TLS", _pair),
        allowed_hosts=tuple(h.strip() for h in (take("MCP_ALLOWED_HOSTS") or "").split(",") if h.strip()),
        public_url=read("MCP_PUBLIC_URL", _url),
        front_url=read("MCP_FRONT_URL", _url),
        auth_server=read("MCP_AUTH_SERVER", _url),
        allow_anonymous=read("ALLOW_ANONYMOUS", _switch),
    )
    if settings.tls_sha256 and settings.tls_ca:
        wrong("TLS_SHA256", "set either this or IMAGEGEN_TLS_CA, not both: a pin trusts one certificate alone")
    if (settings.tls_sha256 or settings.tls_ca) and not settings.url.startswith("https://"):
        wrong("URL", f"{settings.url} is not https, so the certificate that is configured could not be checked")
    if problems:
        raise SettingsError("\n".join(problems))
    return settings


def _url(value: str | None, wrong: Complaint) -> str | None:
    if value is None:
        return None
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        wrong(f"{_without_password(value)!r} is not an address such as http://127.0.0.1:8765")
    elif parts.username or parts.password:
        wrong("put the token into IMAGEGEN_TOKEN, not into the address")
    elif parts.query or parts.fragment:
        wrong(f"{value!r} must end before any ? or #")
    return value.rstrip("/")


def _without_password(value: str) -> str:
    return re.sub(r"//[^/@]*@", "//…@", value)


def _token(value: str | None, wrong: Complaint) -> str | None:
    if value is not None and not re.fullmatch(r"[\x21-\x7e]+", value):
        wrong("contains blanks or characters that an HTTP header cannot carry; copy it again")
        return None
    return value


def _fingerprint(value: str | None, wrong: Complaint) -> str | None:
    if value is None:
        return None
    digits = trust.fingerprint(value)
    if digits is None:
        wrong("a SHA-256 fingerprint has 64 hexadecimal digits; `imagegen tls show` prints the service's")
    return digits


def _host(value: str | None, wrong: Complaint) -> str | None:
    """An address or a host name. An IPv6 address may have brackets."""
    if value is None:
        return None
    bare = re.sub(r"^[a-z][a-z0-9+.-]*://", "", value.lower()).split("/")[0]
    with_port = re.fullmatch(r"(?P<host>[^:]*|\[.*\]):(?P<port>\d+)", bare)
    host = (with_port["host"] if with_port else bare).removeprefix("[").removesuffix("]")
    if with_port:
        wrong(f"{value!r} must be an address without a port: {host}, with IMAGEGEN_MCP_PORT={with_port['port']}")
    elif bare != value.lower():
        wrong(f"{value!r} must be an address without a scheme or path: {host}")
    elif not host:
        wrong(f"{value!r} is not an address")
    return host


def _path(value: str | None, wrong: Complaint) -> Path | None:
    """A path. Expands `${HOME}`, which Claude Desktop may leave in a default."""
    if value is None:
        return None
    home = str(Path.home())
    try:
        return Path(value.replace("${HOME}", home).replace("$HOME", home)).expanduser().absolute()
    except RuntimeError:
        wrong(f"{value!r} begins with the home folder of an unknown user")
        return None


def _paths(value: str | None, wrong: Complaint) -> tuple[Path, ...] | None:
    """Folders, separated as in PATH."""
    if value is None:
        return None
    found = [_path(one.strip(), wrong) for one in value.split(os.pathsep) if one.strip()]
    return tuple(path for path in found if path is not None)


def _number(low: float, high: float) -> Callable[[str | None, Complaint], float | None]:
    """The conversion to a number from `low` to `high`."""

    def convert(value: str | None, wrong: Complaint) -> float | None:
        if value is None:
            return None
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not low <= number <= high:
            wrong(f"{value!r} must be a number from {low:g} to {high:g}")
            return None
        return number

    return convert


def _switch(value: str | None, wrong: Complaint) -> bool:
    known = {
        "1": True,
        "true": True,
        "yes": True,
        "on": True,
        "0": False,
        "false": False,
        "no": False,
        "off": False,
    }
    if value is None:
        return False
    if value.lower() not in known:
        wrong(f"{value!r} must be 1 or 0")
    return known.get(value.lower(), False)


def _pair(value: str | None, wrong: Complaint) -> tuple[Path, Path] | None:
    if value is None:
        return None
    try:
        parts = [Path(part.strip()).expanduser() for part in value.split(",")]
    except RuntimeError:  # ~ with an unknown user
        parts = []
    if len(parts) != 2 or not all(os.path.isfile(part) for part in parts):  # noqa: PTH113 - Path raises for some names
        wrong(f"{value!r} must be CERT,KEY: two PEM files that can be read")
        return None
    return parts[0], parts[1]

"""Checks the host names of requests and the origins of pages that may write to the service.

A web page can make a browser on this machine send requests to the service in two ways. With DNS rebinding the page's
own name resolves to this machine: the Host header reveals this. The page can also send cross-origin requests: Origin
and Sec-Fetch-Site reveal these. A page cannot forge these headers.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable

from starlette.types import Scope

from imagegen.settings import SettingsError

HOST = re.compile(
    r"(?:(?P<name>[a-z0-9._-]+)|\[(?P<address>[0-9a-f:.]+(?:%[a-z0-9._~-]+)?)\])(?::[0-9]{0,5})?",
    re.ASCII | re.IGNORECASE,
)
"""A host name or an address, with or without a port, and nothing else (RFC 9110, 7.2). A URL parser would read a
different name from `localhost#evil` and `evil\\@localhost` than browsers and proxies do."""


CONTAINER_HOST = ("host.docker.internal", "host.containers.internal")
"""Names of this machine inside Docker and Podman containers. No public page can have such a name: `.internal` is
reserved for private use (ICANN, 2024), so public DNS does not resolve it."""


def own_names() -> tuple[str, ...]:
    """Names of this machine: localhost, its host name, and its mDNS name."""
    name = socket.gethostname().lower().rstrip(".")
    return tuple(dict.fromkeys(["localhost", *([name, f"{name.split('.')[0]}.local"] if name else [])]))


class Hosts:
    """The allowed host names: this machine's own, the public one and those of IMAGEGEN_ALLOWED_HOSTS."""

    def __init__(self, allowed: Iterable[str], public: str | None = None) -> None:
        """public: the host of IMAGEGEN_PUBLIC_URL.

        Raises SettingsError for an entry of `allowed` that no Host header could match.
        """
        given = [name.strip() for name in allowed if name.strip()]
        if wrong := next((name for name in given if not _allowed(name)), None):
            raise SettingsError(
                f"IMAGEGEN_ALLOWED_HOSTS: {wrong[:80]!r} is not a host name. Write names or addresses without scheme "
                "and path, separated by commas: pictures.example, 192.0.2.7, 2001:db8::1."
            )
        self._extra = {_allowed(name) for name in given}
        self._names = self._extra | {*own_names(), *CONTAINER_HOST} | ({_allowed(public)} if public else set())

    def allows(self, host: str | None, scope: Scope) -> bool:
        """Whether a Host header is allowed. A request without one is allowed, because no browser sends it."""
        if host is None:
            return True
        name = _hostname(host)
        if name in self._names:
            return True
        address = _address(name)
        if address is None:
            return False
        if address.is_loopback or str(address) in self._names:
            return True
        server = scope.get("server")
        return server is not None and address == _address(str(server[0]))

    @staticmethod
    def names_a_host(host: str | None) -> bool:
        """Whether a Host header is a valid name or address, or absent."""
        return host is None or _hostname(host) != ""

    def same_origin(self, origin: str, *hosts: str | None) -> bool:
        """Whether an Origin header names one of the called `hosts`, or one of IMAGEGEN_ALLOWED_HOSTS."""
        scheme, _, called = origin.partition("://")
        if scheme not in {"http", "https"}:
            return False  # `null` (sandboxed frames, files) and browser extensions
        name = _hostname(called)
        return name != "" and (called.lower() in {(host or "").lower() for host in hosts} or name in self._extra)


def _allowed(given: str) -> str:
    """Normalise an entry of IMAGEGEN_ALLOWED_HOSTS. Empty if it is not a host. An IPv6 address needs no brackets."""
    address = _address(given) or _address(_hostname(given))
    return str(address) if address else _hostname(given)


def _hostname(host: str) -> str:
    """A Host header without its port and brackets. Empty if it is not a host."""
    parts = HOST.fullmatch(host.strip())
    return (parts["name"] or parts["address"]).lower().rstrip(".") if parts else ""


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(name.split("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address

"""Which addresses the service may be called by, and which pages may write to it.

A page on the web can make a browser on this machine send requests here: under the page's own name once its DNS
answers with this machine's address (rebinding), and across origins at any time. The Host header gives away the
first, Origin and Sec-Fetch-Site the second; browsers let no page forge them.
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
"""A host name or an address, with or without a port, and nothing else (RFC 9110, 7.2). A parser of whole addresses
would read a name out of `localhost#evil` and `evil\\@localhost` that browsers and proxies do not see there."""


CONTAINER_HOST = ("host.docker.internal", "host.containers.internal")
"""What Docker and Podman call this machine inside its containers. No page can have such a name: `.internal` is reserved
for private use (ICANN, 2024), so no public DNS answers for it."""


def own_names() -> tuple[str, ...]:
    """Names of this machine: localhost, its host name, and that under mDNS."""
    name = socket.gethostname().lower().rstrip(".")
    return tuple(dict.fromkeys(["localhost", *([name, f"{name.split('.')[0]}.local"] if name else [])]))


class Hosts:
    """The names that requests may carry: this machine's own and those of IMAGEGEN_ALLOWED_HOSTS."""

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
        """Whether a Host header is one of this service's; a request without one comes from no browser."""
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
        """Whether a Host header is a name or an address at all, whosever it is."""
        return host is None or _hostname(host) != ""

    def same_origin(self, origin: str, *hosts: str | None) -> bool:
        """Whether an Origin header names one of the hosts that were called, or one of IMAGEGEN_ALLOWED_HOSTS."""
        scheme, _, called = origin.partition("://")
        if scheme not in {"http", "https"}:
            return False  # `null` (sandboxed frames, files) and extensions
        name = _hostname(called)
        return name != "" and (called.lower() in {(host or "").lower() for host in hosts} or name in self._extra)


def _allowed(given: str) -> str:
    """An entry of IMAGEGEN_ALLOWED_HOSTS as `Hosts` compares it; empty if it is no host at all. An IPv6 address may
    stand there without brackets."""
    address = _address(given) or _address(_hostname(given))
    return str(address) if address else _hostname(given)


def _hostname(host: str) -> str:
    """`Host` without its port and brackets; empty if it is no host at all."""
    parts = HOST.fullmatch(host.strip())
    return (parts["name"] or parts["address"]).lower().rstrip(".") if parts else ""


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(name.split("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address

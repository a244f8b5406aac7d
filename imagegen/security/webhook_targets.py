"""Where a webhook may go: checks its address and its secret, and resolves its host to addresses that are allowed.

The service could otherwise be used to send requests into the network behind it (SSRF). A connection is made to the
address that was checked, so a name that resolves differently the next time changes nothing.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import ipaddress
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from imagegen.settings import Settings, SettingsError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
HOST_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?\.?", re.ASCII)
NAT64 = ipaddress.ip_network("64:ff9b::/96")
COMPATIBLE = ipaddress.ip_network("::/96")
LOCAL_NAT64 = ipaddress.ip_network("64:ff9b:1::/48")
"""RFC 8215. The standard library of Python 3.11 takes it for public."""
MAX_URL = 2000
SECRET_PREFIX = "whsec_"  # noqa: S105 - the prefix of every secret
RESOLVE_S = 5.0


class BadTarget(ValueError):
    """The webhook's address or secret cannot be used. The message is a clause that says why, without the secret."""


@dataclass(frozen=True)
class Webhook:
    """The webhook of a job. secret: None sends no signature."""

    url: str
    secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Target:
    """A parsed address. path: with the query. netloc: the Host header."""

    scheme: str
    host: str
    port: int
    netloc: str
    path: str

    def at(self, address: str) -> str:
        """The URL that connects to `address` instead of resolving the host."""
        return f"{self.scheme}://{f'[{address}]' if ':' in address else address}:{self.port}{self.path}"


def parse_url(url: str) -> Target:
    """Raises BadTarget unless `url` is an http or https address without user name, password and fragment."""
    if not (url.isascii() and url.isprintable() and " " not in url and len(url) <= MAX_URL):
        raise BadTarget(f"the URL must be at most {MAX_URL} printable ASCII characters")
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        raise BadTarget("the URL is malformed") from None
    if parts.scheme not in {"http", "https"}:
        raise BadTarget("the URL must begin with https:// or http://")
    if "@" in parts.netloc or "#" in url:
        raise BadTarget("the URL must have no user name, password and fragment")
    if not (HOST_NAME.fullmatch(host) or _literal(host)) or port == 0:
        raise BadTarget("the URL has no usable host name")
    query = f"?{parts.query}" if parts.query else ""
    default = 443 if parts.scheme == "https" else 80
    return Target(parts.scheme, host, port or default, parts.netloc, (parts.path or "/") + query)


def key_of(secret: str) -> bytes:
    """The key of a secret as Standard Webhooks writes it. Raises BadTarget."""
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not (secret.startswith(SECRET_PREFIX) and 16 <= len(key) <= 64):
        raise BadTarget("the secret must be whsec_ and the base64 of 16 to 64 bytes")
    return key


class Targets:
    """The hosts and networks that webhooks may go to: public addresses, and what IMAGEGEN_WEBHOOK_ALLOW names."""

    def __init__(self, allow: Iterable[str] = ()) -> None:
        """Raises SettingsError for an entry that is neither a host name nor an address or network."""
        self._hosts: set[str] = set()
        self._networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        for entry in filter(None, (one.strip().lower() for one in allow)):
            try:
                self._networks.append(ipaddress.ip_network(entry.strip("[]"), strict=False))
            except ValueError:
                if not HOST_NAME.fullmatch(entry):
                    raise SettingsError(
                        f"IMAGEGEN_WEBHOOK_ALLOW: {entry[:80]!r} is neither a host name nor an address or network. "
                        "Write them separated by commas: hooks.lan, 10.0.0.0/8, ::1."
                    ) from None
                self._hosts.add(entry.rstrip("."))

    @classmethod
    def of(cls, settings: Settings) -> Targets:
        """Raises SettingsError if one of the webhook settings cannot be used."""
        for name, value, check in (
            ("URL", settings.webhook_url, parse_url),
            ("SECRET", settings.webhook_secret, key_of),
        ):
            try:
                if value:
                    check(value)
            except BadTarget as wrong:
                raise SettingsError(f"IMAGEGEN_WEBHOOK_{name}: {wrong}.") from None
        return cls(settings.webhook_allow.split(","))

    def allows(self, host: str, address: str) -> bool:
        """Whether a webhook to `host` may connect to `address`, one of its addresses."""
        found = ipaddress.ip_address(address.split("%")[0])
        inner = _inner(found)
        if host.rstrip(".") in self._hosts or any(
            one in network for one in (found, inner) for network in self._networks
        ):
            return True
        return _is_public(inner)

    async def resolve(self, target: Target) -> list[str]:
        """The addresses of the target's host. Raises BadTarget if one is not allowed, OSError if there is none."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(RESOLVE_S):
            found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if not all(self.allows(target.host, address) for address in addresses):
            raise BadTarget(
                f"{target.host[:80]} is not a public address; the operator can allow it with IMAGEGEN_WEBHOOK_ALLOW"
            )
        return addresses

    async def check(self, webhook: Webhook) -> None:
        """Raises BadTarget if the webhook cannot be used. A name that has no address now is checked at delivery."""
        if webhook.secret is not None:
            key_of(webhook.secret)
        try:
            await self.resolve(parse_url(webhook.url))
        except OSError:  # TimeoutError and socket.gaierror are OSErrors
            return


def _literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return "%" not in host


def _inner(address: Address) -> Address:
    """The IPv4 address that an IPv6 address leads to, or the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if embedded := address.ipv4_mapped or address.sixtofour:
        return embedded
    if address in NAT64 or address in COMPATIBLE:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _is_public(address: Address) -> bool:
    if address.is_multicast or address.is_reserved or address in LOCAL_NAT64:
        return False
    site_local = isinstance(address, ipaddress.IPv6Address) and address.is_site_local
    return address.is_global and not site_local

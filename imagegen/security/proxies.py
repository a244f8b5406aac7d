"""The public address of the service behind a reverse proxy, and the proxies that may set it."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from imagegen.security.hosts import HOST
from imagegen.settings import SettingsError

PREFIX = re.compile(r"(?:/(?:[A-Za-z0-9_~-]|%[0-9A-Fa-f]{2})(?:[A-Za-z0-9._~-]|%[0-9A-Fa-f]{2})*)+", re.ASCII)
"""A path of one or more segments. A segment has no leading dot and no character that ends a cookie attribute or URL."""
PORTS = {"http": ":80", "https": ":443"}


@dataclass(frozen=True)
class PublicAddress:
    """Scheme, host (with a port unless it is the scheme's default) and path prefix (empty, or `/…` without a final
    slash)."""

    scheme: str
    host: str
    prefix: str = ""

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}{self.prefix}"


def public_address(scheme: str, host: str, prefix: str) -> PublicAddress:
    """Check and normalise the parts of an address. Raises ValueError, which names the invalid part."""
    scheme, host, prefix = scheme.strip().lower(), host.strip().lower(), prefix.strip().rstrip("/")
    if scheme not in PORTS:
        raise ValueError(f"the scheme {scheme[:40]!r} is neither http nor https")
    if HOST.fullmatch(host) is None:
        raise ValueError(f"{host[:80]!r} is not a host name or address")
    if prefix and PREFIX.fullmatch(prefix) is None:
        raise ValueError(f"{prefix[:80]!r} is not a path such as /draw")
    return PublicAddress(scheme, host.removesuffix(PORTS[scheme]).removesuffix(":"), prefix)


def public_url(text: str | None) -> PublicAddress | None:
    """Parse IMAGEGEN_PUBLIC_URL. Raises SettingsError."""
    if text is None or not text.strip():
        return None
    try:
        parts = urlsplit(text.strip())
        if parts.query or parts.fragment:
            raise ValueError("it has a query or a fragment")
        return public_address(parts.scheme, parts.netloc, parts.path)
    except ValueError as wrong:
        raise SettingsError(
            f"IMAGEGEN_PUBLIC_URL={text[:120]!r}: {wrong}. Write scheme, host and path: https://pictures.example/draw."
        ) from None


class Proxies:
    """The peers whose X-Forwarded headers are trusted: the addresses and networks of IMAGEGEN_TRUSTED_PROXIES."""

    def __init__(self, trusted: Iterable[str]) -> None:
        """Raises SettingsError for an entry that is neither an address nor a network."""
        self._networks = [_network(one.strip()) for one in trusted if one.strip()]

    def trusts(self, peer: str | None) -> bool:
        """Whether the peer's IP address is trusted. None (a Unix socket) is not."""
        try:
            address = ipaddress.ip_address((peer or "").split("%")[0])
        except ValueError:
            return False
        plain = getattr(address, "ipv4_mapped", None) or address
        return any(plain in network for network in self._networks)


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise SettingsError(
            f"IMAGEGEN_TRUSTED_PROXIES: {text[:80]!r} is neither an IP address nor a network. Write them separated by "
            "commas: 127.0.0.1, 10.0.0.0/8, fd00::/8."
        ) from None

"""Where the service is and how to reach it: arguments, the environment, loopback and proxies."""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from imagegen_client.errors import ServiceError
from imagegen_client.trust import context_for, fingerprint

DEFAULT_URL = "http://127.0.0.1:8765"
PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@dataclass(frozen=True)
class Address:
    """A service: its URL, the token, and what its certificate is checked against.

    The repr omits the token, so that it cannot reach a log.
    """

    url: str = DEFAULT_URL
    token: str | None = field(default=None, repr=False)
    tls_sha256: str | None = None
    tls_ca: Path | None = None
    context: ssl.SSLContext | None = None

    @property
    def on_loopback(self) -> bool:
        """Whether the service is on this machine, which no proxy can reach."""
        return is_loopback(self.url)

    def tls(self) -> ssl.SSLContext | None:
        """The TLS context; None for plain http. Blocks. Raises Distrusted, OSError."""
        return self.context or context_for(self.url, self.tls_sha256, self.tls_ca)


def address_of(
    url: str | None = None,
    token: str | None = None,
    *,
    tls_sha256: str | None = None,
    tls_ca: str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Address:
    """The address from arguments, else from IMAGEGEN_URL, IMAGEGEN_TOKEN, IMAGEGEN_TLS_SHA256, IMAGEGEN_TLS_CA.

    Raises ServiceError `invalid_request` for a value that cannot be used.
    """
    source = os.environ if environ is None else environ

    def take(given: str | None, name: str) -> str | None:
        return (given if given is not None else source.get(name, "")).strip() or None

    pin = take(tls_sha256, "IMAGEGEN_TLS_SHA256")
    digits = None if pin is None else fingerprint(pin)
    if pin is not None and digits is None:
        raise _wrong("IMAGEGEN_TLS_SHA256 must be the SHA-256 that `imagegen tls show` prints: 64 hex digits.")
    ca = take(None if tls_ca is None else os.fspath(tls_ca), "IMAGEGEN_TLS_CA")
    if pin and ca:
        raise _wrong("Set either IMAGEGEN_TLS_SHA256 or IMAGEGEN_TLS_CA: a pin trusts one certificate alone.")
    secret = take(token, "IMAGEGEN_TOKEN")
    if secret is not None and not re.fullmatch(r"[\x21-\x7e]+", secret):
        raise _wrong("The token contains blanks or characters that an HTTP header cannot carry. Copy it again.")
    return Address(
        checked_url(take(url, "IMAGEGEN_URL") or DEFAULT_URL), secret, digits, Path(ca).expanduser() if ca else None
    )


def checked_url(url: str) -> str:
    """The URL without a trailing slash. Raises ServiceError `invalid_request` for what is no address of a service."""
    try:
        url.encode()  # refuses bytes of an argument that are no text
        parts = urlsplit(url)
        odd = parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0
    except ValueError:
        odd = True
    shown = re.sub(r"//[^/@]*@", "//…@", url)[:200]
    if odd:
        raise _wrong(f"{shown} is not an address of a service, such as {DEFAULT_URL}.")
    if parts.username or parts.password:
        raise _wrong(f"{shown} contains a user or password. Pass the token as `token` or in IMAGEGEN_TOKEN.")
    if parts.query or parts.fragment:
        raise _wrong(f"{shown} must end before any ? or #.")
    return url.rstrip("/")


def is_loopback(url: str) -> bool:
    """Whether `url` is a loopback address, which no proxy can reach."""
    try:
        host = (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host.split("%")[0])
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified


def unusable_proxy(reason: Exception) -> str | None:
    """The message if a proxy variable prevents creating an HTTP client. None if no such variable is set."""
    named = [name for upper in PROXY_VARIABLES for name in (upper, upper.lower()) if os.environ.get(name)]
    if not named:
        return None
    why = "SOCKS proxies are not supported" if isinstance(reason, ImportError) else str(reason)
    return (
        f"{' or '.join(named)} names a proxy that cannot be used: {why}. Set an http:// proxy, unset it, "
        "or name the host in NO_PROXY."
    )


def _wrong(sentence: str) -> ServiceError:
    return ServiceError("invalid_request", sentence)

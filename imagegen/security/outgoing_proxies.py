"""Proxies of the environment for outgoing requests: when they apply, and which variables set them."""

from __future__ import annotations

import ipaddress
import os
from urllib.parse import urlsplit

VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


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


def unusable(reason: Exception) -> str | None:
    """The error message if a proxy variable prevents creating an HTTP client. None if no such variable is set."""
    named = [name for upper in VARIABLES for name in (upper, upper.lower()) if os.environ.get(name)]
    if not named:
        return None
    why = "SOCKS proxies are not supported" if isinstance(reason, ImportError) else str(reason)
    return f"{' or '.join(named)} names a proxy that cannot be used: {why}. Set an http:// proxy, or unset it."

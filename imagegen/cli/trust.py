"""Which TLS certificates the command line trusts: a pinned one, its own service's, a CA's, or the system's."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from imagegen.setting_values import SettingsError
from imagegen_client import trust
from imagegen_client.errors import Distrusted

if TYPE_CHECKING:
    from imagegen.settings import Settings


def context_for(url: str, own: Settings | None, sha256: str | None, ca: str | None) -> ssl.SSLContext | None:
    """The TLS context for `url`; None for plain http. `own`: the settings of this machine's service, if it is its URL.

    sha256, ca: what IMAGEGEN_TLS_SHA256 and IMAGEGEN_TLS_CA say.

    Raises SettingsError for a malformed or mismatched pin or CA file, OSError if the service cannot be reached.
    """
    parts = urlsplit(url)
    if parts.scheme != "https":
        return None
    if written := (sha256 or "").strip():
        return pinned(parts.hostname or "", parts.port or 443, written)
    if own is not None:
        certificate = own.tls_dir / "cert.pem" if own.tls == "auto" else Path(own.tls.split(",")[0])
        if certificate.exists():
            return trust.trusting(certificate.read_text())
    file = (ca or "").strip()
    try:
        return trust.context_for(url, None, Path(file).expanduser() if file else None)
    except Distrusted as wrong:
        raise SettingsError(str(wrong)) from None


def pinned(host: str, port: int, written: str) -> ssl.SSLContext:
    """Trust the server's certificate if its SHA-256 is the one written. Raises SettingsError, OSError."""
    pin = trust.fingerprint(written)
    if pin is None:
        raise SettingsError("IMAGEGEN_TLS_SHA256 must be the SHA-256 that `imagegen tls show` prints: 64 hex digits.")
    try:
        return trust.pinned(host, port, pin)
    except Distrusted as wrong:
        raise SettingsError(str(wrong)) from None

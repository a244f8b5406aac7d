"""Which TLS certificates the command line trusts: a pinned one, that of this machine's service, or the system store."""

from __future__ import annotations

import hashlib
import os
import re
import ssl
from pathlib import Path
from urllib.parse import urlsplit

from imagegen.settings import Settings, SettingsError

HANDSHAKE_TIMEOUT_S = 10.0


def context_for(url: str, own: Settings | None) -> ssl.SSLContext | bool:
    """The `verify` argument of httpx for `url`. `own`: the settings of this machine's service, if the URL is its URL.

    Raises SettingsError for a malformed or mismatched pin, OSError if the service cannot be reached.
    """
    parts = urlsplit(url)
    if parts.scheme != "https":
        return True
    pin = os.environ.get("IMAGEGEN_TLS_SHA256", "").replace(":", "").strip().lower()
    if pin:
        return pinned(parts.hostname or "", parts.port or 443, pin)
    if own is not None:
        certificate = own.tls_dir / "cert.pem" if own.tls == "auto" else Path(own.tls.split(",")[0])
        if certificate.exists():
            return trusting(certificate.read_text())
    return True


def pinned(host: str, port: int, pin: str) -> ssl.SSLContext:
    """Trust the server's certificate if its SHA-256 is `pin`. Raises SettingsError, OSError."""
    return trusting(_fetch(host, port, pin))


def trusting(pem: str) -> ssl.SSLContext:
    """Trust only the first certificate in `pem`. Its host names are not checked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # the certificate itself is pinned
    context.load_verify_locations(cadata=pem)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # default since Python 3.13: refuses plain self-signed certificates
    return context


def _fetch(host: str, port: int, pin: str) -> str:
    """The server's certificate in PEM, compared with `pin` because this fetch is not authenticated."""
    if not re.fullmatch(r"[0-9a-f]{64}", pin):
        raise SettingsError("IMAGEGEN_TLS_SHA256 must be the SHA-256 that `imagegen tls show` prints: 64 hex digits.")
    pem = ssl.get_server_certificate((host, port), timeout=HANDSHAKE_TIMEOUT_S)
    got = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
    if got != pin:
        raise SettingsError(
            f"The certificate of {host}:{port} is not the one pinned by IMAGEGEN_TLS_SHA256, so nothing was sent. "
            f"Its SHA-256 is {got}; `imagegen tls show` on its machine must print the same."
        )
    return pem

"""Which TLS certificates are trusted: a pinned one, a CA file's, or the system store's. It always verifies."""

from __future__ import annotations

import hashlib
import re
import ssl
from pathlib import Path
from urllib.parse import urlsplit

from imagegen_client.errors import Distrusted

HANDSHAKE_TIMEOUT_S = 10.0


def fingerprint(written: str) -> str | None:
    """The SHA-256 in 64 lower-case hex digits, from the usual ways to write it. None if it is none."""
    digits = re.sub(r"^sha-?256[:=/]?", "", written.strip().lower()).replace(":", "").replace(" ", "")
    return digits if re.fullmatch(r"[0-9a-f]{64}", digits) else None


def context_for(url: str, sha256: str | None, ca: Path | None) -> ssl.SSLContext | None:
    """The TLS context for `url`; None for plain http. Blocks, since it may connect once.

    Raises Distrusted for a wrong pin or an unusable CA file, OSError if the service cannot be reached.
    """
    parts = urlsplit(url)
    if parts.scheme != "https":
        return None
    if sha256:
        return pinned(parts.hostname or "", parts.port or 443, sha256)
    if ca is None:
        return ssl.create_default_context()
    try:
        return ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as unusable:
        raise Distrusted(
            "distrusted",
            f"IMAGEGEN_TLS_CA={ca} cannot be used as a CA file ({unusable}). "
            "It must be a PEM file that this user can read.",
        ) from None


def pinned(host: str, port: int, sha256: str) -> ssl.SSLContext:
    """Trust only the certificate with this SHA-256 of its DER form. Raises Distrusted, OSError.

    The first fetch is not authenticated; its certificate is compared with the pin. Every later handshake is verified
    against that certificate.
    """
    pem = ssl.get_server_certificate((host, port), timeout=HANDSHAKE_TIMEOUT_S)
    got = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
    if got != sha256:
        raise Distrusted(
            "distrusted",
            f"The certificate of {host}:{port} is not the pinned one, so nothing was sent. "
            f"Pinned: {sha256}. Presented: {got}. If the service got a new certificate, `imagegen tls show` "
            "on its machine prints the same fingerprint as the presented one: put that into "
            "IMAGEGEN_TLS_SHA256. If it prints another, another machine intercepts the connection.",
        )
    return trusting(pem)


def trusting(pem: str) -> ssl.SSLContext:
    """Trust only the first certificate in `pem`. Its host names are not checked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # the certificate itself is pinned
    context.load_verify_locations(cadata=pem)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    # Python 3.13 and later add RFC 5280 strictness, which plain self-signed certificates do not meet.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def certificate_problem(down: BaseException | None) -> str | None:
    """The TLS error that made a connection fail; None if the cause is another."""
    while down is not None:
        if isinstance(down, ssl.SSLCertVerificationError):
            return down.verify_message
        if isinstance(down, ssl.SSLError):
            return down.reason or str(down)
        down = down.__cause__ or down.__context__
    return None

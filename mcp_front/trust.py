"""Which TLS certificates the front trusts: a pinned one, a CA file's, or the system store's. It always verifies."""

from __future__ import annotations

import hashlib
import ssl
from urllib.parse import urlsplit

from mcp_front.settings import Settings

HANDSHAKE_TIMEOUT_S = 10


class Distrusted(Exception):
    """The service's certificate does not match the settings. The message says what to do."""


def ssl_context(settings: Settings) -> ssl.SSLContext | None:
    """The TLS context for `settings.url`; None for plain http. Blocks, since it may connect once.

    Raises Distrusted for a wrong pin or an unusable CA file, OSError if the service cannot be reached.
    """
    parts = urlsplit(settings.url)
    if parts.scheme != "https":
        return None
    if settings.tls_sha256:
        assert parts.hostname
        return _pinned(parts.hostname, parts.port or 443, settings.tls_sha256)
    if settings.tls_ca:
        try:
            return ssl.create_default_context(cafile=settings.tls_ca)
        except (OSError, ssl.SSLError) as unusable:
            raise Distrusted(
                f"IMAGEGEN_TLS_CA={settings.tls_ca} cannot be used as a CA file ({unusable}). "
                "It must be a PEM file that this user can read."
            ) from None
    return ssl.create_default_context()


def _pinned(host: str, port: int, sha256: str) -> ssl.SSLContext:
    """Trust only the certificate with this SHA-256 of its DER form. Its host names are not checked.

    The first fetch is not authenticated; its certificate is compared with the pin. Every later handshake is verified
    against that certificate.
    """
    pem = ssl.get_server_certificate((host, port), timeout=HANDSHAKE_TIMEOUT_S)
    got = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
    if got != sha256:
        raise Distrusted(
            f"The certificate of {host}:{port} is not the pinned one, so nothing was sent. "
            f"Pinned: {sha256}. Presented: {got}. If the service got a new certificate, `imagegen tls show` "
            "on its machine prints the same fingerprint as the presented one: put that into "
            "IMAGEGEN_TLS_SHA256. If it prints another, another machine intercepts the connection."
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # the pin identifies the certificate itself
    context.load_verify_locations(cadata=pem)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    # Python 3.13 and later add RFC 5280 strictness, which plain self-signed certificates do not meet.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context

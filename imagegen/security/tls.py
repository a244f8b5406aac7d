"""HTTPS certificates. `auto` makes a self-signed certificate and keeps it in the state folder.

No authority signs this certificate, so clients pin its SHA-256. It therefore stays the same over restarts and
redeploys, even when the machine's names change. Its key never changes.
"""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import logging
import os
import socket
import ssl
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from imagegen.security.hosts import own_names
from imagegen.settings import Settings, SettingsError
from imagegen.storage import permissions

log = logging.getLogger("imagegen.tls")

LIFE_DAYS = 825
"""The longest validity that Apple's systems accept for a server (support.apple.com, HT210176)."""
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""TLS 1.2 suites in OpenSSL's syntax: forward secrecy and authenticated encryption, no CBC. uvicorn's default
(`TLSv1`) offers CBC. TLS 1.3 has only suites of this kind."""
RENEW_DAYS = 30
"""The next start renews a certificate that expires in fewer days."""


@dataclass(frozen=True)
class Files:
    """A PEM certificate (with its chain, if any) and its PEM key."""

    certificate: Path
    key: Path


def files_of(settings: Settings) -> Files | None:
    """The files of IMAGEGEN_TLS, None for `off`. For `auto` it creates or renews them.

    Raises SettingsError with a sentence if the files cannot be used or created.
    """
    if settings.tls == "off":
        return None
    if settings.tls == "auto":
        return _own(settings)
    certificate, key = settings.tls.split(",")
    files = Files(Path(certificate), Path(key))
    check(files)
    return files


def check(files: Files) -> None:
    """Raises SettingsError unless a server can use this certificate with this key."""
    for what, file in (("certificate", files.certificate), ("key", files.key)):
        try:
            file.open("rb").close()
        except OSError as failure:
            raise SettingsError(f"IMAGEGEN_TLS: the {what} {file} cannot be read: {failure.strerror}.") from None

    def no_password() -> str:
        raise SettingsError(f"IMAGEGEN_TLS: the key {files.key} has a password; the service cannot ask for it.")

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(files.certificate, files.key, no_password)
    except ssl.SSLError as failure:
        if failure.reason == "KEY_VALUES_MISMATCH":
            raise SettingsError(f"IMAGEGEN_TLS: {files.key} is not the key of {files.certificate}.") from None
        raise SettingsError(
            f"IMAGEGEN_TLS: {files.certificate} and {files.key} are not a certificate and its key in PEM form "
            f"({failure.reason or failure})."
        ) from None


def load_certificate(files: Files) -> x509.Certificate:
    """Load the server's certificate, the first of the chain. Raises OSError, ValueError."""
    return x509.load_pem_x509_certificate(files.certificate.read_bytes())


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the DER form, 64 hexadecimal digits, as in a client's IMAGEGEN_TLS_SHA256."""
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


def key_pin(certificate: x509.Certificate) -> str:
    """The public key's pin for `curl --pinnedpubkey`. A renewal keeps the key and so the pin."""
    public = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return "sha256//" + b64encode(hashlib.sha256(public).digest()).decode()


def announce(files: Files) -> None:
    """Log the certificate's SHA-256 and its end, with a warning if fewer than RENEW_DAYS are left."""
    certificate = load_certificate(files)
    until = certificate.not_valid_after_utc
    log.info("tls sha256=%s until=%s", fingerprint(certificate), until.date())
    if _left(certificate) < datetime.timedelta(days=RENEW_DAYS):
        log.warning("the certificate ends on %s: put a new one into its place and start again", until.date())


def names_of(certificate: x509.Certificate) -> list[str]:
    """The certificate's host names and addresses."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in names]


# ---- the self-signed certificate ----------------------------------------------------------------


def own_files(settings: Settings) -> Files:
    """The certificate and key files of `auto`."""
    return Files(settings.tls_dir / "cert.pem", settings.tls_dir / "key.pem")


def _own(settings: Settings) -> Files:
    files = own_files(settings)
    try:
        permissions.make_folder(files.key.parent)
        if not files.key.exists():
            _write(files.key, new_key())
        if not files.certificate.exists() or _left(load_certificate(files)) < datetime.timedelta(days=RENEW_DAYS):
            renew(files, [*own_names(), *own_addresses()])
    except OSError as failure:
        where = failure.filename or files.key.parent
        raise SettingsError(f"IMAGEGEN_TLS=auto: {where} cannot be used: {failure.strerror}.") from None
    except ValueError:
        raise SettingsError(
            f"IMAGEGEN_TLS=auto: the certificate or the key in {files.key.parent} is damaged. Put it back from a "
            "backup, or remove both files: new ones are made, which every client must then pin anew."
        ) from None
    check(files)
    return files


def renew_own(settings: Settings) -> None:
    """Renew the certificate of `auto` for this machine's current names. Raises SettingsError."""
    files = _own(settings)
    try:
        renew(files, [*own_names(), *own_addresses()])
    except OSError as failure:
        raise SettingsError(f"The certificate cannot be written: {failure.strerror}.") from None


def new_key() -> bytes:
    """A new P-256 key as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def renew(files: Files, names: Iterable[str], days: float = LIFE_DAYS) -> None:
    """Sign a new certificate for `names` with the existing key. Raises OSError, ValueError."""
    key = load_pem_private_key(files.key.read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("not a key that was made here")
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "imagegen")])
    public = key.public_key()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))  # a client's clock may be behind
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        # Not a CA: a client that trusts it must not trust other certificates signed by its key.
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write(files.certificate, certificate.public_bytes(Encoding.PEM))


def own_addresses() -> list[str]:
    """This machine's addresses, loopback first, without link-local ones, which need a zone."""
    found = ["127.0.0.1", "::1"]
    for one in (address for addresses in psutil.net_if_addrs().values() for address in addresses):
        if one.family not in {socket.AF_INET, socket.AF_INET6}:
            continue
        address = ipaddress.ip_address(one.address.split("%")[0])
        if not address.is_link_local:
            found.append(str(address))
    return list(dict.fromkeys(found))


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _left(certificate: x509.Certificate) -> datetime.timedelta:
    return certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)


def _write(file: Path, data: bytes) -> None:
    """Write the file atomically, with mode 0600."""
    whole = file.with_name(f".{file.name}.{os.getpid()}")
    whole.unlink(missing_ok=True)
    with os.fdopen(permissions.open_private(whole, os.O_WRONLY | os.O_EXCL), "wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    whole.replace(file)

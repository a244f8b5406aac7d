"""Certificates for signing pictures, as an operator may have them: good ones and bad ones."""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
DAY = datetime.timedelta(days=1)


def own_certificate(
    folder: Path, key: Key | None = None, *, days: tuple[int, int] = (-1, 365), usage: bool = True, password: str = ""
) -> tuple[Path, Path]:
    """The files of a chain, signer and authority, and of the signer's key. days: begin and end, from now on."""
    authority, name = ec.generate_private_key(ec.SECP256R1()), _name("Example authority")
    signer = key or ec.generate_private_key(ec.SECP384R1())
    now = datetime.datetime.now(datetime.UTC)

    def begun(subject: x509.Name, of: Key, first: int, last: int) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(name)
            .public_key(of.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + first * DAY)
            .not_valid_after(now + last * DAY)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(of.public_key()), critical=False)
        )

    root = begun(name, authority, -1000, 3650).add_extension(x509.BasicConstraints(True, None), critical=True)
    leaf = begun(_name("Example press"), signer, *days).add_extension(x509.BasicConstraints(False, None), critical=True)
    leaf = leaf.add_extension(_signs(), critical=True).add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), critical=False
    )
    if usage:
        leaf = leaf.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
    chain = [one.sign(authority, hashes.SHA256()).public_bytes(Encoding.PEM) for one in (leaf, root)]
    locked = BestAvailableEncryption(password.encode()) if password else NoEncryption()
    files = folder / "chain.pem", folder / "key.pem"
    files[0].write_bytes(b"".join(chain))
    files[1].write_bytes(signer.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked))
    return files


def _name(common: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, common), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example")]
    )


def _signs() -> x509.KeyUsage:
    return x509.KeyUsage(True, False, False, False, False, False, False, False, False)

"""The certificates that sign pictures: the service's own, made in the state folder, or the operator's.

Profile of C2PA 2.2, 14.5.1 (certificate profiles): key usage digitalSignature, extended key usage emailProtection,
key identifiers, an organisation in the subject; no signature of the root itself. A picture's signature counts as valid
only while its certificate is, because there is no time stamp: so the service's certificates live for ten years and are
replaced after one.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from imagegen.storage import permissions

ROOT_LIFE = datetime.timedelta(days=20 * 365)
SIGNER_LIFE = datetime.timedelta(days=10 * 365)
SIGNER_IN_USE = datetime.timedelta(days=365)
"""After this time another certificate signs."""
FILE_MAX_BYTES = 64 * 1024
CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
Now = Callable[[], datetime.datetime]


class KeyTrouble(Exception):
    """A certificate or key cannot be used. The message is a sentence, without the path's contents."""


@dataclass(frozen=True)
class Credentials:
    """What signs. `chain`: PEM, the signer's certificate first. `algorithm`: C2PA's name of it.

    `anchors`: PEM certificates; a file that chains to one of them was signed by this service. `renew_at`: read or make
    them anew from then on.
    """

    chain: bytes
    key: bytes
    algorithm: str
    anchors: bytes
    renew_at: datetime.datetime


def utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def given(certificate: Path, key: Path) -> Credentials:
    """The operator's own. `certificate`: PEM, the signer's first, then its authorities. Raises KeyTrouble."""
    chain, private = _read(certificate), _read(key)
    try:
        certificates = x509.load_pem_x509_certificates(chain)
        public = load_pem_private_key(private, None).public_key()
    except TypeError:
        raise KeyTrouble(f"The key {key} has a password. Remove it: openssl pkey -in KEY -out KEY.new") from None
    except ValueError:
        raise KeyTrouble(f"{certificate} or {key} is not a PEM file with a certificate and its private key.") from None
    signer = certificates[0]
    if signer.public_key() != public:
        raise KeyTrouble(f"The key {key} does not belong to the first certificate of {certificate}.")
    until = signer.not_valid_after_utc
    if until <= utc_now():
        raise KeyTrouble(f"The certificate {certificate} expired on {until:%Y-%m-%d}.")
    anchor = certificates[-1].public_bytes(Encoding.PEM)
    return Credentials(chain, private, _algorithm(public, certificate), anchor, until)


def _algorithm(public: PublicKeyTypes, certificate: Path) -> str:
    if isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name in CURVES:
        return CURVES[public.curve.name]
    if isinstance(public, rsa.RSAPublicKey):
        return "ps256"
    if isinstance(public, ed25519.Ed25519PublicKey):
        return "ed25519"
    raise KeyTrouble(f"The key of {certificate} is of a kind that C2PA does not know: use P-256, RSA or Ed25519.")


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(FILE_MAX_BYTES)
    except OSError as error:
        raise KeyTrouble(f"{path} cannot be read: {error.strerror}.") from None


@dataclass(frozen=True)
class Pair:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


class OwnKeys:
    """The service's own root and signer: root.pem and signer.pem, each a key and its certificate.

    Only the service's user may read them. former.pem: roots that were replaced.
    """

    def __init__(self, folder: Path, now: Now = utc_now) -> None:
        self._folder, self._now = folder, now

    def load(self) -> Credentials:
        """The credentials, made or renewed if that is due. Raises KeyTrouble.

        Roots that were replaced stay anchors, so that pictures of their time count as this service's.
        """
        try:
            permissions.make_folder(self._folder)
            with self._locked():
                root = self._root()
                signer = self._signer(root)
                anchors = root.pem + self._former()
        except OSError as error:
            raise KeyTrouble(f"The keys in {self._folder} cannot be used: {error.strerror}.") from None
        renew_at = signer.certificate.not_valid_before_utc + SIGNER_IN_USE
        return Credentials(signer.pem + root.pem, signer.key_pem, "es256", anchors, renew_at)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One process at a time makes keys."""
        descriptor = permissions.open_private(self._folder / "lock", os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _root(self) -> Pair:
        root = self._read_pair("root")
        if root is not None and root.certificate.not_valid_after_utc >= self._now() + SIGNER_LIFE:
            return root
        if root is not None:  # its signers would outlive it
            self._write("former", self._former() + root.pem)
        key, name = ec.generate_private_key(ec.SECP256R1()), _subject("imagegen root")
        made = (
            _builder(name, name, key, self._now(), ROOT_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(of_root=True), critical=True)
        )
        return self._keep("root", Pair(made.sign(key, hashes.SHA256()), key))

    def _signer(self, root: Pair) -> Pair:
        signer = self._read_pair("signer")
        if signer is not None and self._may_sign(signer.certificate, root.certificate):
            return signer
        key = ec.generate_private_key(ec.SECP256R1())
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(root.key.public_key())
        made = (
            _builder(_subject("imagegen"), root.certificate.subject, key, self._now(), SIGNER_LIFE)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(of_root=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
            .add_extension(authority, critical=False)
        )
        return self._keep("signer", Pair(made.sign(root.key, hashes.SHA256()), key))

    def _may_sign(self, signer: x509.Certificate, root: x509.Certificate) -> bool:
        """Whether this root issued it, and it is neither too old nor from the future."""
        try:
            signer.verify_directly_issued_by(root)
        except (ValueError, TypeError, InvalidSignature):
            return False
        begun = signer.not_valid_before_utc
        return begun <= self._now() <= begun + SIGNER_IN_USE

    def _former(self) -> bytes:
        file = self._folder / "former.pem"
        return file.read_bytes() if file.exists() else b""

    def _read_pair(self, name: str) -> Pair | None:
        """What `_keep` wrote; None if there is nothing. Raises KeyTrouble for a damaged file."""
        file = self._folder / f"{name}.pem"
        if not file.exists():
            return None
        data = _read(file)
        try:
            certificate, key = x509.load_pem_x509_certificate(data), load_pem_private_key(data, None)
        except (ValueError, TypeError):
            key = None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise KeyTrouble(f"{file} is damaged: restore it from a backup, or delete it to have a new one made.")
        return Pair(certificate, key)

    def _keep(self, name: str, pair: Pair) -> Pair:
        self._write(name, pair.key_pem + pair.pem)
        return pair

    def _write(self, name: str, data: bytes) -> None:
        """Replace the file as a whole: a crash leaves the old one or the new one."""
        temporary = self._folder / f".{name}.tmp"
        temporary.unlink(missing_ok=True)
        with os.fdopen(permissions.open_private(temporary, os.O_WRONLY), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._folder / f"{name}.pem")


def _subject(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "imagegen (self-hosted)"),
        ]
    )


def _builder(
    name: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: datetime.datetime,
    life: datetime.timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))  # a viewer's clock may be behind
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, of_root: bool) -> x509.KeyUsage:
    """Signing certificates for the root, signing files for the other."""
    return x509.KeyUsage(
        digital_signature=not of_root,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=of_root,
        crl_sign=of_root,
        encipher_only=False,
        decipher_only=False,
    )

"""`imagegen tls`: the certificate of the service, for clients to pin."""

from __future__ import annotations

import click
from cryptography import x509

from imagegen.cli.documents import Certificate
from imagegen.cli.output import json_option, print_json
from imagegen.security import tls as certificates
from imagegen.settings import SettingsError, load


@click.group()
def tls() -> None:
    """Show or renew the service's certificate, which clients pin."""


@tls.command()
@json_option
def show(as_json: bool) -> None:
    """Print the certificate's SHA-256, names and expiry. IMAGEGEN_TLS=auto makes a missing certificate."""
    settings = load()
    files = certificates.files_of(settings)
    if files is None:
        raise SettingsError(
            "IMAGEGEN_TLS is off: the service speaks plain HTTP. IMAGEGEN_TLS=auto makes a certificate."
        )
    certificate = certificates.load_certificate(files)
    if as_json:
        print_json(_document(certificate, files))
        return
    click.echo(f"sha256       {certificates.fingerprint(certificate)}")
    click.echo(f"key pin      {certificates.key_pin(certificate)}")
    click.echo(f"names        {', '.join(certificates.names_of(certificate))}")
    click.echo(f"valid until  {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
    click.echo(f"file         {files.certificate}")


@tls.command()
@json_option
def renew(as_json: bool) -> None:
    """Replace the certificate of IMAGEGEN_TLS=auto by one for this machine's current names. Its SHA-256 changes."""
    settings = load()
    if settings.tls != "auto":
        raise SettingsError("Only the certificate of IMAGEGEN_TLS=auto can be renewed here.")
    certificates.renew_own(settings)
    click.echo("The service uses it from its next start on. Clients then pin:", err=True)
    files = certificates.own_files(settings)
    certificate = certificates.load_certificate(files)
    if as_json:
        print_json(_document(certificate, files))
    else:
        click.echo(certificates.fingerprint(certificate))


def _document(certificate: x509.Certificate, files: certificates.Files) -> Certificate:
    return Certificate(
        sha256=certificates.fingerprint(certificate),
        key_pin=certificates.key_pin(certificate),
        names=list(certificates.names_of(certificate)),
        valid_until=certificate.not_valid_after_utc.isoformat().replace("+00:00", "Z"),
        file=str(files.certificate),
    )

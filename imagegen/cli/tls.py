"""`imagegen tls`: the certificate of the service, for clients to pin."""

from __future__ import annotations

import click

from imagegen.security import tls as certificates
from imagegen.settings import SettingsError, load


@click.group()
def tls() -> None:
    """The service's certificate: show what clients pin, renew it."""


@tls.command()
def show() -> None:
    """The certificate's SHA-256, its names and its end; with IMAGEGEN_TLS=auto it is made if need be."""
    settings = load()
    files = certificates.files_of(settings)
    if files is None:
        raise SettingsError(
            "IMAGEGEN_TLS is off: the service speaks plain HTTP. IMAGEGEN_TLS=auto makes a certificate."
        )
    certificate = certificates.load_certificate(files)
    click.echo(f"sha256       {certificates.fingerprint(certificate)}")
    click.echo(f"key pin      {certificates.key_pin(certificate)}")
    click.echo(f"names        {', '.join(certificates.names_of(certificate))}")
    click.echo(f"valid until  {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
    click.echo(f"file         {files.certificate}")


@tls.command()
def renew() -> None:
    """Make IMAGEGEN_TLS=auto's certificate anew, for the names this machine has now. Its SHA-256 changes."""
    settings = load()
    if settings.tls != "auto":
        raise SettingsError("Only the certificate of IMAGEGEN_TLS=auto can be renewed here.")
    certificates.renew_own(settings)
    click.echo("The service shows it from its next start on; clients then pin:", err=True)
    click.echo(certificates.fingerprint(certificates.load_certificate(certificates.own_files(settings))))

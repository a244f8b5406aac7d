"""HTTPS: the real service under its own certificate and under given ones, and what clients pin."""

from __future__ import annotations

import hashlib
import os
import ssl
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from served import ImagegenServe, Service, new_home, spoken

from imagegen.cli.trust import context_for
from imagegen.security import tls
from imagegen.settings import Settings, SettingsError, load

TOKEN = "a-token-of-anna-0"


class Https(Service):
    """The service called under https."""

    def __init__(self, home: Path, sd_server: Path, settings: dict[str, object], certificate: Path) -> None:
        super().__init__(home, sd_server, settings)
        self.url = f"https://127.0.0.1:{self.port}"
        context = ssl.create_default_context(cafile=str(certificate))
        context.verify_flags |= ssl.VERIFY_X509_STRICT  # what Python 3.13 does by itself
        self.http = httpx.Client(base_url=self.url, timeout=60, verify=context, trust_env=False)


class HttpsServe(Https, ImagegenServe):
    pass


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, models_dir: Path, sd_server: Path) -> Iterator[Service]:
    """`imagegen serve` with IMAGEGEN_TLS=auto and a token, its certificate made before it starts."""
    home = new_home(tmp_path_factory.mktemp("secured") / "home", models_dir)
    files = tls.files_of(Settings(home=home, tls="auto"))
    assert files is not None
    service = HttpsServe(home, sd_server, {"tls": "auto", "tokens": f"anna:{TOKEN}"}, files.certificate)
    service.http.headers["authorization"] = f"Bearer {TOKEN}"
    service.start()
    yield service
    service.end()


def cli(service: Service, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "imagegen.cli", *arguments]
    told = service.environment() | {"IMAGEGEN_TOKEN": TOKEN} | environment
    return subprocess.run(command, env=told, capture_output=True, text=True, timeout=60)


def sha256_of(service: Service) -> str:
    return cli(service, "tls", "show").stdout.split("sha256")[1].split()[0]


def test_a_client_that_trusts_the_certificate_draws_over_https(secured: Service) -> None:
    job = secured.draw()
    assert job["url"].startswith(f"{secured.url}/images/")
    assert secured.http.get(job["url"]).content.startswith(b"\x89PNG")
    assert secured.http.get(f"https://localhost:{secured.port}/api/status").status_code == 200
    cookie = secured.http.post("/api/session", headers={"origin": secured.url}).headers["set-cookie"]
    secured.http.cookies.clear()
    assert "secure" in cookie.lower()


def test_nobody_else_is_believed_and_plain_http_is_not_answered(secured: Service) -> None:
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"{secured.url}/readyz", trust_env=False)
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{secured.port}/readyz", trust_env=False)


def test_only_suites_with_authenticated_encryption_are_offered(secured: Service) -> None:
    every = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    every.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    old = [one for one in every.get_ciphers() if one["protocol"] != "TLSv1.3"]
    others = [one["name"] for one in old if not one["aead"]]
    assert any("-SHA" in name for name in others), "CBC suites are among those that are tried"
    for names, version in ((others, None), ([one["name"] for one in old if one["aead"]], "TLSv1.2")):
        assert spoken(secured.port, ":".join(names)) == version, names


def test_what_is_shown_and_logged_is_what_clients_see(secured: Service) -> None:
    shown = sha256_of(secured)
    assert f"tls sha256={shown}" in secured.log.read_text()
    pem = ssl.get_server_certificate(("127.0.0.1", secured.port))
    der = ssl.PEM_cert_to_DER_cert(pem)
    assert hashlib.sha256(der).hexdigest() == shown
    assert secured.http.get("/readyz").status_code == 200


def test_a_pinned_client_believes_this_certificate_alone(secured: Service) -> None:
    context = context_for(secured.url, None, sha256_of(secured), None)
    assert httpx.get(f"{secured.url}/readyz", verify=context, trust_env=False).status_code == 200
    with pytest.raises(SettingsError, match="not the pinned one"):
        context_for(secured.url, None, "0" * 64, None)
    with pytest.raises(SettingsError, match="64 hex"):
        context_for(secured.url, None, "abc", None)


def test_the_command_line_knows_its_own_service_and_pins_others(secured: Service) -> None:
    own = cli(secured, "status")
    assert own.returncode == 0, own.stderr
    pin = sha256_of(secured)
    other = {"IMAGEGEN_URL": secured.url, "IMAGEGEN_TLS": "off"}
    assert cli(secured, "status", **other, IMAGEGEN_TLS_SHA256=pin).returncode == 0
    unpinned = cli(secured, "status", **other)
    assert unpinned.returncode == 4
    assert "Traceback" not in unpinned.stderr


def test_given_files_are_used_by_bentoml_serve(home: Path, sd_server: Path, tmp_path: Path) -> None:
    files = made(tmp_path)
    given = {"tls": f"{files.certificate},{files.key}"}
    service = Https(home, sd_server, given, files.certificate)
    try:
        service.start()
        assert service.http.get("/readyz").status_code == 200
        assert sha256_of(service) == tls.fingerprint(tls.load_certificate(files))
    finally:
        service.end()


# ---- certificates -------------------------------------------------------------------------------


def made(folder: Path, names: tuple[str, ...] = ("localhost", "127.0.0.1"), days: float = 10) -> tls.Files:
    """A certificate and key of the kind `auto` makes."""
    folder.mkdir(parents=True, exist_ok=True)
    files = tls.Files(folder / "cert.pem", folder / "key.pem")
    files.key.write_bytes(tls.new_key())
    tls.renew(files, names, days)
    return files


def test_the_own_certificate_is_kept_and_names_this_machine(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, tls="auto")
    files = tls.files_of(settings)
    assert files is not None
    first = files.certificate.read_bytes(), files.key.read_bytes()
    assert tls.files_of(settings) == files
    assert (files.certificate.read_bytes(), files.key.read_bytes()) == first
    assert stat.S_IMODE(files.key.stat().st_mode) == 0o600
    names = tls.names_of(tls.load_certificate(files))
    assert {"localhost", "127.0.0.1", "::1", os.uname().nodename.lower()} <= set(names)


def test_a_certificate_near_its_end_is_renewed_with_the_same_key(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, tls="auto")
    kept = made(tmp_path / "tls", days=tls.RENEW_DAYS + 1)
    before = tls.load_certificate(kept)
    tls.files_of(settings)
    assert tls.load_certificate(kept) == before, "more than enough is left"
    for days in (tls.RENEW_DAYS - 1, -0.01):  # the second has ended
        old = made(tmp_path / "tls", days=days)
        key = old.key.read_bytes()
        before = tls.load_certificate(old)
        tls.files_of(settings)
        after = tls.load_certificate(old)
        assert tls.fingerprint(after) != tls.fingerprint(before)
        assert tls.key_pin(after) == tls.key_pin(before)
        assert old.key.read_bytes() == key
        assert (after.not_valid_after_utc - after.not_valid_before_utc).days == tls.LIFE_DAYS


def test_a_renewal_that_is_asked_for_keeps_the_key(tmp_path: Path) -> None:
    files = made(tmp_path / "tls", days=100)
    before = tls.load_certificate(files)
    tls.renew_own(Settings(home=tmp_path, tls="auto"))
    after = tls.load_certificate(files)
    assert (tls.key_pin(after), tls.fingerprint(after) == tls.fingerprint(before)) == (tls.key_pin(before), False)
    assert "::1" in tls.names_of(after)


def test_a_state_folder_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, tls="auto")
    files = made(tmp_path / "tls")
    files.certificate.write_text("no certificate")
    with pytest.raises(SettingsError, match="damaged"):
        tls.files_of(settings)
    with pytest.raises(SettingsError, match="cannot be used"):
        tls.files_of(Settings(home=files.key, tls="auto"))


@pytest.mark.parametrize("value", ["on", "", "a.pem", "a.pem,", "a,b,c"])
def test_wrong_values_are_told_at_the_start(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("IMAGEGEN_TLS", value)
    with pytest.raises(SettingsError, match=r"IMAGEGEN_TLS=.*CERT,KEY"):
        load()


def test_wrong_files_are_told_at_the_start(tmp_path: Path) -> None:
    one, two = made(tmp_path / "one"), made(tmp_path / "two")
    locked = tmp_path / "locked.pem"
    key = load_pem_private_key(one.key.read_bytes(), None)
    locked.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))
    for certificate, key_file, sentence in (
        (tmp_path / "none.pem", one.key, "certificate .* cannot be read: No such file"),
        (one.certificate, tmp_path, "key .* cannot be read: Is a directory"),
        (one.certificate, two.key, "is not the key of"),
        (one.key, one.certificate, "not a certificate and its key"),
        (one.certificate, locked, "has a password"),
    ):
        with pytest.raises(SettingsError, match=sentence):
            tls.files_of(Settings(home=tmp_path, tls=f"{certificate},{key_file}"))

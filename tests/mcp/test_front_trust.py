"""Whose certificate is believed: the pinned one, the CA file's, the system's; never just any."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport
from fronts import SMALL, call, http_front, reply, run, saved_path_of, stand_in, text_of, within
from served import Service, spoken


@dataclass(frozen=True)
class Certificate:
    """A self-signed certificate for loopback, on disk."""

    cert: Path
    key: Path

    @property
    def sha256(self) -> str:
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(self.cert.read_text())).hexdigest()

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert, self.key)
        return context


def certificate(folder: Path) -> Certificate:
    folder.mkdir()
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "imagegen")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    pkcs8 = serialization.PrivateFormat.PKCS8
    plain = serialization.NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, pkcs8, plain))
    return Certificate(folder / "cert.pem", folder / "key.pem")


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    return certificate(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="module")
def another(tmp_path_factory):
    return certificate(tmp_path_factory.mktemp("tls") / "another")


@pytest.fixture
def door(ours):
    """A TLS door of which it is known who came through, and with which token."""
    seen: list[str | None] = []

    def answer(handler):
        seen.append(handler.headers.get("Authorization"))
        reply(handler, 200, "application/json", b'{"items": []}')

    with stand_in(answer, ours.context()) as url:
        yield url, seen


def listed(url, **settings):
    async def story():
        async with within(url, token="hush", **settings) as client:
            return await call(client, "list_templates")

    return run(story())


def test_the_pinned_certificate_is_believed(door, ours):
    url, seen = door
    assert not listed(url, tls_sha256=ours.sha256).is_error
    assert seen and set(seen) == {"Bearer hush"}


def test_a_wrong_pin_is_refused_and_nothing_is_sent(door, another):
    url, seen = door
    result = listed(url, tls_sha256=another.sha256)
    assert result.is_error and "is not the pinned one, so nothing was sent" in text_of(result)
    assert another.sha256 in text_of(result) and "imagegen tls show" in text_of(result)
    assert seen == []


def test_a_ca_file_is_believed_and_another_is_not(door, ours, another):
    url, seen = door
    assert not listed(url, tls_ca=ours.cert).is_error
    seen.clear()
    result = listed(url, tls_ca=another.cert)
    assert result.is_error and "not trusted" in text_of(result) and seen == []


def test_the_system_store_does_not_know_it(door):
    url, seen = door
    result = listed(url)
    assert result.is_error and "not trusted" in text_of(result)
    assert "IMAGEGEN_TLS_SHA256" in text_of(result) and seen == []


def test_a_ca_file_that_is_none_is_a_sentence(door, tmp_path):
    (tmp_path / "ca.pem").write_text("not a certificate")
    for path in (tmp_path / "ca.pem", tmp_path / "missing.pem"):
        assert "cannot be used as a CA file" in text_of(listed(door[0], tls_ca=path))


def test_a_certificate_that_changes_is_refused_until_it_is_back(ours, another):
    seen = []

    def answer(handler):
        seen.append(handler.path)
        reply(handler, 200, "application/json", b'{"items": []}')

    context = ours.context()

    async def story(url):
        async with within(url, tls_sha256=ours.sha256, token="hush") as client:
            assert not (await call(client, "list_templates")).is_error
            context.load_cert_chain(another.cert, another.key)  # each connection here serves one request
            seen.clear()
            results = [await call(client, "list_templates") for _ in range(2)]
            assert all(result.is_error for result in results) and seen == []
            context.load_cert_chain(ours.cert, ours.key)
            assert not (await call(client, "list_templates")).is_error

    with stand_in(answer, context) as url:
        run(story(url))


def test_the_front_over_https(service, ours):
    async def story(front):
        trusted = ssl.create_default_context(cafile=ours.cert)
        async with Client(StreamableHttpTransport(f"{front}/mcp", verify=trusted)) as client:
            assert {tool.name for tool in await client.list_tools()} >= {"generate_image"}

    with http_front(service.url, mcp_tls=f"{ours.cert},{ours.key}") as front:
        assert front.startswith("https://")
        run(story(front))
        port = httpx.URL(front).port
        assert spoken(port, "ECDHE-ECDSA-AES128-GCM-SHA256") == "TLSv1.2"
        for cbc in ("ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES256-SHA384"):
            assert spoken(port, cbc) is None, cbc


TOKEN = "ann-" + "0123456789abcdef" * 2


@pytest.fixture(scope="module")
def locked(tmp_path_factory, models_dir, sd_server, ours):
    """The real service over https, with a token."""
    home = tmp_path_factory.mktemp("locked") / "home"
    home.mkdir()
    (home / "models").symlink_to(models_dir, target_is_directory=True)
    service = Service(home, sd_server, {"tls": f"{ours.cert},{ours.key}", "tokens": f"ann:{TOKEN}"})
    service.url = service.url.replace("http:", "https:")
    trusted = ssl.create_default_context(cafile=ours.cert)
    service.http = httpx.Client(base_url=service.url, timeout=60, verify=trusted, trust_env=False)
    service.start()
    yield service
    service.end()


def test_the_real_service_over_https_with_pin_and_token(locked, ours, tmp_path):
    async def story(**settings):
        async with within(locked.url, tls_sha256=ours.sha256, output_dir=tmp_path, **settings) as client:
            return await call(client, "generate_image", prompt="behind a lock", **SMALL)

    drawn = run(story(token=TOKEN))
    assert not drawn.is_error, text_of(drawn)
    assert saved_path_of(drawn).is_file() and "URL (until 20" in text_of(drawn)
    for settings in ({}, {"token": "of-nobody"}):
        refused = run(story(**settings))
        assert refused.is_error and "needs a token" in text_of(refused) and "IMAGEGEN_TOKEN" in text_of(refused)


def test_a_locked_service_is_reached_through_a_front_for_other_machines(locked, ours):
    """A missing token is 401 with the document that says where to get one (RFC 9728); a wrong one is a tool error."""

    async def ask(front, token):
        headers = {"Authorization": f"Bearer {token}"}
        async with Client(StreamableHttpTransport(f"{front}/mcp", headers=headers)) as client:
            return await call(client, "list_templates")

    known = {"mcp_front_url": "https://pictures.example/mcp", "mcp_auth_server": "https://login.example"}
    with http_front(locked.url, tls_sha256=ours.sha256, **known) as front, httpx.Client(base_url=front) as http:
        assert not run(ask(front, TOKEN)).is_error
        assert "needs a token" in text_of(run(ask(front, "of-nobody")))
        refused = http.post("/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
        assert refused.status_code == 401
        document = "https://pictures.example/.well-known/oauth-protected-resource/mcp"
        assert refused.headers["www-authenticate"] == f'Bearer resource_metadata="{document}"'
        for path in ("/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-protected-resource"):
            assert http.get(path).json() == {
                "resource": "https://pictures.example/mcp",
                "resource_name": "imagegen",
                "bearer_methods_supported": ["header"],
                "authorization_servers": ["https://login.example"],
            }
        assert http.get("/healthz").status_code == 200

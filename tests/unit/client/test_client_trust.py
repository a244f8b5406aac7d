"""Which certificates a client trusts that goes on running while they change."""

from __future__ import annotations

import http.server
import shutil
import ssl
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from fronts import reply, stand_in

from imagegen.security import tls
from imagegen.settings import Settings
from imagegen_client import AsyncClient, Client, Distrusted


def certificate(folder: Path) -> tls.Files:
    files = tls.files_of(Settings(home=folder, tls="auto"))
    assert files is not None
    return files


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A service over https with a certificate that is not yet in the CA file."""
    files = certificate(tmp_path / "served")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    shutil.copy(certificate(tmp_path / "other").certificate, tmp_path / "ca.pem")

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        reply(request, 200, "application/json", b'{"items": []}')

    with stand_in(answer, context) as url:
        yield url


def test_a_client_reads_a_ca_file_that_was_replaced(url: str, tmp_path: Path) -> None:
    with Client(url, tls_ca=tmp_path / "ca.pem") as client:
        with pytest.raises(Distrusted):
            client.models()
        shutil.copy(certificate(tmp_path / "served").certificate, tmp_path / "ca.pem")
        assert client.models() == []


def test_an_async_client_reads_a_ca_file_that_was_replaced(url: str, tmp_path: Path) -> None:
    async def story() -> list[object]:
        async with AsyncClient(url, tls_ca=tmp_path / "ca.pem") as client:
            with pytest.raises(Distrusted):
                await client.models()
            shutil.copy(certificate(tmp_path / "served").certificate, tmp_path / "ca.pem")
            return list(await client.models())

    assert anyio.run(story) == []

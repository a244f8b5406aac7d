"""Proxies of the environment: never between our clients and this machine; one that cannot be used is named."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import anyio
import pytest

from imagegen.cli.client import Service, ServiceError
from imagegen.deploy import healthcheck
from imagegen.models.download.hub import Hub, HubError
from imagegen_client.address import PROXY_VARIABLES, is_loopback
from mcp_front import connection as front
from mcp_front import settings as front_settings

VARIABLES = [name for upper in PROXY_VARIABLES for name in (upper, upper.lower())]
DEAD = ["http://127.0.0.1:1", "socks5://127.0.0.1:1", "nonsense://127.0.0.1:1"]


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps({"ok": True}).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*VARIABLES, "NO_PROXY", "no_proxy"]:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize("proxy", DEAD)
def test_no_client_uses_a_proxy_for_loopback(
    port: int, monkeypatch: pytest.MonkeyPatch, variable: str, proxy: str
) -> None:
    monkeypatch.setenv(variable, proxy)
    for host in ("127.0.0.1", "localhost"):
        assert Service(f"http://{host}:{port}").json("GET", "/") == {"ok": True}
    assert healthcheck.trouble(f"http://127.0.0.1:{port}/") is None

    async def ask() -> object:
        settings = front_settings.load({"IMAGEGEN_URL": f"http://127.0.0.1:{port}"})
        return await front.Connection(settings, lambda: None).json("GET", "/")

    assert anyio.run(ask) == {"ok": True}


@pytest.mark.parametrize("variable", VARIABLES[-2:])
@pytest.mark.parametrize("proxy", DEAD[1:])
def test_a_proxy_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch, variable: str, proxy: str) -> None:
    monkeypatch.setenv(variable, proxy)
    with pytest.raises(ServiceError, match=variable):
        Service("http://pictures.example").json("GET", "/")

    async def connect() -> None:
        settings = front_settings.load({"IMAGEGEN_URL": "http://pictures.example"})
        await front.Connection(settings, lambda: None).json("GET", "/")

    with pytest.raises(front.ServiceError, match=variable):
        anyio.run(connect)
    with pytest.raises(HubError, match=variable), Hub()._hub_errors("owner/name"):
        import httpx2

        httpx2.Client()


@pytest.mark.parametrize(
    ("url", "own"),
    [
        ("http://127.0.0.1:8765", True),
        ("http://127.8.9.1", True),
        ("https://LOCALHOST:1", True),
        ("http://[::1]:8765", True),
        ("http://[::ffff:127.0.0.1]", True),
        ("http://0.0.0.0:8765", True),
        ("http://192.0.2.7", False),
        ("http://localhost.example", False),
        ("http://[", False),
    ],
)
def test_what_is_loopback(url: str, own: bool) -> None:
    assert is_loopback(url) is own

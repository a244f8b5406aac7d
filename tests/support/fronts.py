"""The MCP front as its clients start it, and helpers for its tests."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.server
import io
import json
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import httpx
from fastmcp import Client
from fastmcp.apps import UI_EXTENSION_ID
from fastmcp.client.transports import StdioTransport
from mcp.client.extension import ClientExtension, advertise
from PIL import Image
from served import ROOT, free_port, until

from mcp_front.app import build
from mcp_front.settings import load

SMALL = {"width": 64, "height": 64, "steps": 2, "seed": 7}
"""A picture that the tiny model draws in a second or two."""

MANY_STEPS = {"width": 64, "height": 64, "steps": 100, "seed": 7}
"""A picture that takes long enough for a test to see it running."""

DRAWING = ["generate_image", "edit_image", "submit_async_job"]
SHOWING = ["generate_image", "edit_image", "get_job_result"]
READING = ["get_job_status", "list_templates", "list_models", "list_images", "read_image_chunk", "read_job"]
APP_ONLY = {"read_image_chunk", "read_job", "upload_mask", "vary_image"}
TOOLS = {*DRAWING, *SHOWING, *READING, "cancel_job", "upscale_image", "keep_image", *APP_ONLY}
"""All tools of the front. DRAWING submit jobs, SHOWING return a picture, READING change nothing; APP_ONLY are the
view's."""


def environment(url: str, **settings: object) -> dict[str, str]:
    """The environment that a client sets for the front, without the developer's IMAGEGEN_ variables."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("IMAGEGEN_")}
    own = {f"IMAGEGEN_{name.upper()}": str(value) for name, value in settings.items()}
    path = os.pathsep.join(p for p in (str(ROOT), kept.get("PYTHONPATH", "")) if p)
    return kept | {"PYTHONPATH": path, "IMAGEGEN_URL": url} | own


def stdio(
    url: str, *, ui: bool = False, code: str | None = None, client: dict[str, Any] | None = None, **settings: object
) -> Client[StdioTransport]:
    """A client that starts its own front over stdio. `code` replaces the front's entry point."""
    arguments = ["-c", code] if code else ["-m", "mcp_front"]
    transport = StdioTransport(
        sys.executable, arguments, env=environment(url, **settings), keep_alive=False, log_file=Path(os.devnull)
    )
    return Client(transport, extensions=_view(ui), **(client or {}))


PICTURES = tempfile.TemporaryDirectory(prefix="imagegen-pictures-")


def within(
    url: str, *, ui: bool = False, local: bool = True, client: dict[str, Any] | None = None, **settings: object
) -> Client[Any]:
    """A client of a front in this process. It saves pictures into a folder of the tests, not into the user's."""
    own = {f"IMAGEGEN_{name.upper()}": str(value) for name, value in {"output_dir": PICTURES.name, **settings}.items()}
    return Client(build(load({"IMAGEGEN_URL": url} | own), local=local), extensions=_view(ui), **(client or {}))


def _view(ui: bool) -> list[ClientExtension] | None:
    return [advertise(UI_EXTENSION_ID, {"mimeTypes": ["text/html;profile=mcp-app"]})] if ui else None


def run(story: Coroutine[Any, Any, Any]) -> Any:
    """Run a test's coroutine, for at most three minutes."""

    async def bounded() -> Any:
        return await asyncio.wait_for(story, timeout=180)

    return asyncio.run(bounded())


async def call(client: Client[Any], tool: str, **arguments: Any) -> Any:
    return await client.call_tool(tool, arguments, raise_on_error=False)


def text_of(result: Any) -> str:
    return "\n".join(part.text for part in result.content if part.type == "text")


def after(text: str, label: str) -> str:
    """The text after a label, up to the end of its line."""
    assert label in text, text
    return text.split(label, 1)[1].splitlines()[0].strip()


def image_id_of(result: Any) -> str:
    return after(text_of(result), "Image id: ").split()[0]


def job_id_of(result: Any) -> str:
    return after(text_of(result), "Job ").split()[0].rstrip(":.")


def saved_path_of(result: Any) -> Path:
    return Path(after(text_of(result), "Saved: "))


def preview_of(result: Any) -> Image.Image:
    """The preview of a result, with its size and format checked."""
    found = [part for part in result.content if part.type == "image"]
    assert len(found) == 1 and found[0].mime_type == "image/jpeg"
    content = base64.b64decode(found[0].data)
    assert len(content) <= 100_000
    preview = Image.open(io.BytesIO(content))
    assert preview.format == "JPEG" and max(preview.size) <= 512
    return preview


def size_of(result: Any) -> int:
    """The number of characters of a result as JSON, which clients limit."""
    return sum(len(part.model_dump_json()) for part in result.content) + len(json.dumps(result.structured_content))


async def until_async(happened: Callable[[], bool], what: str, timeout: float = 60) -> None:
    """`served.until` without blocking the event loop."""
    await asyncio.to_thread(until, happened, what, timeout)


@contextlib.contextmanager
def http_front(url: str, *, log: Path = Path(os.devnull), **settings: object) -> Iterator[str]:
    """A front over HTTP on its own port. Yields its base URL, without /mcp."""
    port = free_port()
    scheme = "https" if "mcp_tls" in settings else "http"
    with log.open("ab") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "mcp_front", "--http"],
            env=environment(url, mcp_port=port, **settings),
            stdin=subprocess.DEVNULL,
            stderr=stderr,
        )
    try:

        def answers() -> bool:
            assert process.poll() is None, "the front ended"
            with contextlib.suppress(httpx.TransportError):
                # This only waits for the port, so the certificate is not verified.
                return httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=5).status_code == 200
            return scheme == "https" and _listens(port)

        until(answers, "the front answers")
        yield f"{scheme}://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextlib.contextmanager
def stand_in(
    answer: Callable[[http.server.BaseHTTPRequestHandler], None], tls: ssl.SSLContext | None = None
) -> Iterator[str]:
    """An HTTP server on loopback that is not the service, as behind a wrong address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        do_POST = do_DELETE = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def reply(handler: http.server.BaseHTTPRequestHandler, status: int, kind: str, body: bytes, **headers: str) -> None:
    """Answer a stand-in's request."""
    handler.rfile.read(int(handler.headers.get("content-length") or 0))
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(body)))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)

"""A model hub on loopback: listings and files as the real one serves them, and its failures.

It serves the requests of huggingface_hub 2.4.0: `GET /api/models/REPO/revision/main?blobs=True` (sha, siblings with
lfs.sha256 or blobId, cardData), and `GET /REPO/resolve/COMMIT/PATH` with ranges. For large files the latter redirects
to another host name, as to a CDN, which must not see the token, with X-Repo-Commit, X-Linked-Etag and X-Linked-Size.
With a `xet` store it also sends a file's Xet headers (X-Xet-Hash, X-Xet-Refresh-Route) and issues the store's token.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from loopback import LoopbackServer
from xet import LoopbackXet

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SENT_AT_ONCE_BYTES = 16_384
TINY = {"diffusion_model": "dit.gguf", "llm": "llm.gguf", "tae": "tae.gguf"}
FLAGS = {"diffusion_model": "--diffusion-model", "llm": "--llm", "tae": "--tae"}


def far_away(title: str = "Far away", *, shared: bool = True) -> str:
    """The TOML of a catalog entry of the tiny model, with the files that `have_tiny` puts on the hub.

    shared: the files belong in the folder `far` of shared files, not in the entry's own.
    """
    place = 'shared = "far"\n' if shared else ""
    tables = [
        f'[[files]]\nrole = "{role}"\nflag = "{FLAGS[role]}"\nfile = "{file}"\n{place}'
        f'repo = "owner/tiny"\npath = "{file}"\n'
        for role, file in TINY.items()
    ]
    return f'base = "tiny"\ntitle = "{title}"\n' + "\n".join(tables)


@dataclass
class Fault:
    """A fault of one request for a file's bytes or for a listing."""

    status: int = 200  # refuse with this
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None  # close the connection after this many bytes
    hold_after: int | None = None  # wait after this many bytes, until `hub.release()`
    flip: bool = False  # the bytes are wrong
    no_ranges: bool = False  # the requested range is ignored


@dataclass
class Seen:
    method: str
    host: str
    path: str
    range: str | None
    authorization: str | None
    download: bool


class LoopbackHub(LoopbackServer):
    """Set files by `hub.files["owner/name"]["path"] = bytes`. Each request for bytes uses up one of `hub.faults`."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.small: set[str] = set()  # paths without LFS: served directly, with git's checksum
        self.licence = "apache-2.0"
        self.faults: list[Fault] = []
        self.listing_faults: list[Fault] = []
        self.token: str | None = None  # if set, required
        self.xet: LoopbackXet | None = None  # if set, it stores the large files
        self.seen: list[Seen] = []
        super().__init__(_Handler)

    def have_tiny(self, models: Path) -> None:
        """Put the tiny model's files from a models folder on the hub."""
        self.files["owner/tiny"] = {name: (models / "tiny" / name).read_bytes() for name in TINY.values()}

    def offer_tiny(self, home: Path, patch: pytest.MonkeyPatch, *, shared: bool = True) -> None:
        """Write the entry `far` of the tiny model into a state folder, and name this hub in the environment."""
        (home / "models" / "far.toml").write_text(far_away(shared=shared))
        patch.setenv("HF_ENDPOINT", self.url)
        patch.setenv("HF_HOME", str(home / "hf"))
        patch.setenv("NO_PROXY", "127.0.0.1,localhost")

    def reads(self) -> list[Seen]:
        """The requests whose answer contained bytes of a file."""
        return [one for one in self.seen if one.download]


@contextlib.contextmanager
def tiny_hub(models: Path) -> Iterator[LoopbackHub]:
    """A hub that has the tiny model's files."""
    hub = LoopbackHub()
    hub.have_tiny(models)
    try:
        yield hub
    finally:
        hub.close()


class _Handler(BaseHTTPRequestHandler):
    owner: LoopbackHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub, path = self.owner, unquote(urlsplit(self.path).path)
        seen = Seen(
            self.command,
            self.headers["host"].split(":")[0],
            path,
            self.headers["range"],
            self.headers["authorization"],
            False,
        )
        hub.seen.append(seen)
        if "/xet-read-token/" in path:
            self._xet_token()
        elif path.startswith("/api/models/"):
            self._listing(path.removeprefix("/api/models/").removesuffix("/revision/main"))
        elif path.startswith("/cdn/"):
            _, _, owner, name, file = path.split("/", 4)
            seen.download = True
            self._bytes(hub.files[f"{owner}/{name}"][file])
        elif "/resolve/" in path:
            self._resolve(path, seen)
        else:
            self._answer(404, {}, b"")

    def _allowed(self) -> bool:
        if self.owner.token is None or self.headers["authorization"] == f"Bearer {self.owner.token}":
            return True
        self._answer(401, {"X-Error-Message": "Invalid credentials in Authorization header"}, b"")
        return False

    def _listing(self, repo: str) -> None:
        hub = self.owner
        if self._faulty(hub.listing_faults) or not self._allowed():
            return
        if repo not in hub.files:
            self._answer(404, {"X-Error-Code": "RepoNotFound"}, b"")
            return
        siblings: list[dict[str, Any]] = []
        for path, data in hub.files[repo].items():
            one = {"rfilename": path, "size": len(data), "blobId": _git_sha1(data)}
            if path not in hub.small:
                lfs = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
                one |= {"blobId": _git_sha1(b"a pointer"), "lfs": lfs}
            siblings.append(one)
        body = {"id": repo, "sha": COMMIT, "siblings": siblings, "cardData": {"license": hub.licence}}
        self._answer(200, {"Content-Type": "application/json"}, json.dumps(body).encode())

    def _xet_token(self) -> None:
        if self.owner.xet is not None and self._allowed():
            self._answer(200, {"Content-Type": "application/json"}, json.dumps(self.owner.xet.access()).encode())

    def _resolve(self, path: str, seen: Seen) -> None:
        hub = self.owner
        repo, _, rest = path[1:].partition("/resolve/")
        commit, _, file = rest.partition("/")
        if not self._allowed():
            return
        data = hub.files.get(repo, {}).get(file)
        if data is None or commit != COMMIT:
            self._answer(404, {"X-Error-Code": "EntryNotFound"}, b"")
        elif file in hub.small:
            seen.download = True
            self._bytes(data)
        else:
            headers = {
                "Location": f"http://localhost:{hub.port}/cdn/{repo}/{file}",
                "X-Repo-Commit": COMMIT,
                "X-Linked-Etag": f'"{hashlib.sha256(data).hexdigest()}"',
                "X-Linked-Size": str(len(data)),
            }
            if hub.xet is not None:
                headers["X-Xet-Hash"] = hub.xet.store(data)
                headers["X-Xet-Refresh-Route"] = f"{hub.url}/api/models/{repo}/xet-read-token/{COMMIT}"
            self._answer(302, headers, b"")

    def _faulty(self, faults: list[Fault]) -> bool:
        if faults and faults[0].status != 200:
            fault = faults.pop(0)
            self._answer(fault.status, fault.headers, b"")
            return True
        return False

    def _bytes(self, data: bytes) -> None:
        hub = self.owner
        if self._faulty(hub.faults):
            return
        fault = hub.faults.pop(0) if hub.faults else Fault()
        start = 0
        if self.headers["range"] and not fault.no_ranges:
            start = int(self.headers["range"].removeprefix("bytes=").removesuffix("-"))
        body = data[start:]
        if fault.flip:
            body = bytes(255 - byte for byte in body)
        self.send_response(206 if self.headers["range"] and not fault.no_ranges else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        stops = {fault.cut_after: self._cut, fault.hold_after: hub.wait_to_go}
        try:
            self._send(body, {at: what for at, what in stops.items() if at is not None})
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _send(self, body: bytes, stops: dict[int, Callable[[], None]]) -> None:
        edges = sorted({*range(0, len(body), SENT_AT_ONCE_BYTES), *stops, len(body)})
        for start, end in pairwise(edges):
            if start in stops:
                self.wfile.flush()
                stops[start]()
                if self.close_connection:
                    return
            self.wfile.write(body[start:end])

    def _cut(self) -> None:
        self.close_connection = True

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: Any) -> None:
        """Log nothing."""


def _git_sha1(data: bytes) -> str:
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()

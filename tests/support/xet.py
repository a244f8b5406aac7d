"""A Xet store on loopback for the requests of hf_xet 1.8.0: a file's reconstruction, and ranges of its xorbs.

`GET /v1/reconstructions/HASH` (with a range) returns terms, which are runs of chunks of a xorb, and their URLs.
`GET /xorbs/HASH` (always with a range) returns a xorb: chunks, each after a header of eight bytes. The v2 route of
reconstructions answers 404, as a store without it does. Spec: huggingface/xet-core, docs of the download protocol and
of the xorb format.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any

from loopback import LoopbackServer

CHUNK_BYTES, CHUNKS_A_XORB = 4_096, 8
XORB_BYTES = CHUNK_BYTES * CHUNKS_A_XORB
HEADER_BYTES = 8
TOKEN = "xet_of_the_tests"


@dataclass
class XetFault:
    """A fault of every request for the xorb with this number, counted from the start of its file."""

    xorb: int
    status: int = 206
    hold: bool = False  # wait until `release()`
    flip: bool = False  # the bytes are wrong


@dataclass(frozen=True)
class _Xorb:
    number: int
    chunks: list[bytes]

    def stored(self) -> bytes:
        """Uncompressed chunks, each after its header: version, size, scheme 0, uncompressed size."""
        sizes = [len(chunk).to_bytes(3, "little") for chunk in self.chunks]
        return b"".join(b"\0" + size + b"\0" + size + chunk for size, chunk in zip(sizes, self.chunks, strict=True))


class LoopbackXet(LoopbackServer):
    """`store(bytes)` returns a file's hash. `token`: the store's token, which the hub issues."""

    def __init__(self) -> None:
        self.token = TOKEN
        self.faults: list[XetFault] = []
        self.asked: list[str | None] = []  # requested ranges of reconstructions
        self._files: dict[str, list[str]] = {}
        self._xorbs: dict[str, _Xorb] = {}
        super().__init__(_Handler)

    def store(self, data: bytes) -> str:
        name = hashlib.sha256(b"a file" + data).hexdigest()
        self._files[name] = []
        for number, start in enumerate(range(0, len(data), XORB_BYTES)):
            part = data[start : start + XORB_BYTES]
            xorb = _Xorb(number, [part[at : at + CHUNK_BYTES] for at in range(0, len(part), CHUNK_BYTES)])
            key = hashlib.sha256(b"a xorb" + part).hexdigest()
            self._xorbs[key] = xorb
            self._files[name].append(key)
        return name

    def access(self) -> dict[str, Any]:
        """The answer of the hub's token route."""
        return {"accessToken": self.token, "exp": int(time.time()) + 3600, "casUrl": self.url}

    def xorbs(self, name: str) -> Iterator[tuple[str, _Xorb]]:
        return ((key, self._xorbs[key]) for key in self._files[name])


class _Handler(BaseHTTPRequestHandler):
    owner: LoopbackXet
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        _, kind, *rest = self.path.split("/")
        if kind == "v1" and rest[0] == "reconstructions" and rest[1] in self.owner._files:
            self.owner.asked.append(self.headers["range"])
            if self.headers["authorization"] != f"Bearer {TOKEN}":
                self._answer(401, b"")
            else:
                self._answer(200, json.dumps(self._reconstruction(rest[1])).encode())
        elif kind == "xorbs":
            self._xorb(rest[0])
        else:
            self._answer(404, b"")

    def _reconstruction(self, name: str) -> dict[str, Any]:
        """The terms that cover the range: whole chunks. The first may begin before the range."""
        start, end = self._range()
        terms: list[dict[str, Any]] = []
        fetch: dict[str, Any] = {}
        at = skipped = 0
        for key, xorb in self.owner.xorbs(name):
            wanted = []
            for index, chunk in enumerate(xorb.chunks):
                if at + len(chunk) > start and at <= end:
                    wanted.append(index)
                    if not terms and len(wanted) == 1:
                        skipped = start - at
                at += len(chunk)
            if wanted:
                chunks = {"start": wanted[0], "end": wanted[-1] + 1}
                edges = [sum(HEADER_BYTES + len(c) for c in xorb.chunks[:i]) for i in chunks.values()]
                unpacked = sum(len(xorb.chunks[index]) for index in wanted)
                terms.append({"hash": key, "unpacked_length": unpacked, "range": chunks})
                url_range = {"start": edges[0], "end": edges[1] - 1}
                fetch[key] = [{"range": chunks, "url": f"{self.owner.url}/xorbs/{key}", "url_range": url_range}]
        return {"offset_into_first_range": skipped, "terms": terms, "fetch_info": fetch}

    def _xorb(self, key: str) -> None:
        xorb = self.owner._xorbs[key]
        fault = next((one for one in self.owner.faults if one.xorb == xorb.number), XetFault(xorb.number))
        if fault.hold:
            self.owner.wait_to_go()
        if fault.status != 206:
            self._answer(fault.status, b"")
            return
        if fault.flip:
            xorb = _Xorb(xorb.number, [bytes(255 - byte for byte in chunk) for chunk in xorb.chunks])
        start, end = self._range()
        self._answer(206, xorb.stored()[start : end + 1])

    def _range(self) -> tuple[int, int]:
        if self.headers["range"] is None:
            return 0, 1 << 60
        start, _, end = self.headers["range"].removeprefix("bytes=").partition("-")
        return int(start), int(end)

    def _answer(self, status: int, body: bytes) -> None:
        try:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def log_message(self, *_arguments: Any) -> None:
        """Log nothing."""

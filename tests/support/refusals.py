"""Helpers for requests that must be refused: the answer in one shape, large bodies, and state that must not change."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import select
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
from PIL import Image
from served import Service

PROBLEM = "application/problem+json"
PIECE = 256 * 1024


@dataclass(frozen=True)
class Answer:
    """A refusal: status, stable code and sentence, the same for every API."""

    status: int
    code: str
    detail: str


def ask(service: Service, method: str, path: str, **sent: Any) -> Answer:
    """Send a request that must be refused. Returns the refusal."""
    answer = service.http.request(method, path, **sent)
    return _refusal(answer.status_code, answer.headers.get("content-type", ""), answer.content)


def refusal_in(response: bytes) -> Answer:
    """Parse the refusal in the bytes of a whole HTTP response."""
    head, _, body = response.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return _refusal(int(first.split()[1]), headers.get("content-type", ""), body)


def _refusal(status: int, kind: str, body: bytes) -> Answer:
    assert 400 <= status < 500, (status, body[:500])
    document = json.loads(body)
    if kind == PROBLEM:
        assert (document["status"], document["type"]) == (status, "about:blank")
        assert document["title"]
        answer = Answer(status, document["code"], document["detail"])
    elif "errors" in document:  # as AUTOMATIC1111's
        assert kind == "application/json", kind
        answer = Answer(status, document["error"], document["detail"])
    else:
        assert kind == "application/json", kind
        error = document.get("error", document)
        message = error if isinstance(error, str) else error["message"]
        answer = Answer(status, "" if isinstance(error, str) else str(error["code"]), message)
    assert answer.detail.endswith((".", "…")), "a sentence ends"
    return answer


@contextlib.contextmanager
def untouched(service: Service) -> Iterator[None]:
    """Check that the block creates no job, picture or file, and starts no engine. An idle engine may be unloaded."""
    engine, before = _state(service)
    if engine["state"] not in {"cold", "ready"}:
        service.until_state("cold", "ready")
        engine, before = _state(service)
    yield
    now, after = _state(service)
    assert after == before, f"before {before}, after {after}"
    assert now["pid"] in {engine["pid"], None}, now
    assert now["state"] in {"cold", "ready", "unloading"}, now


def _state(service: Service) -> tuple[dict[str, Any], dict[str, Any]]:
    """The engine's state; and the queue, the newest job and the files."""
    status = service.status()
    newest = service.http.get("/api/jobs", params={"limit": 1}).json()["items"]
    return status["engine"], {
        "queue": (status["queue"]["queued"], status["queue"]["running"]),
        "newest": [job["job_id"] for job in newest],
        "files": sorted(path.name for path in (service.home / "images").iterdir()),
    }


@contextlib.contextmanager
def peak_bytes(process: psutil.Process) -> Iterator[Callable[[], int]]:
    """Yields a function that returns by how many bytes the process's peak memory exceeds its memory at the start."""
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")  # the peak counts from here (Linux, proc(5))
    before = process.memory_info().rss
    yield lambda: _high_water_bytes(process) - before


def _high_water_bytes(process: psutil.Process) -> int:
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def flood(service: Service, path: str, kind: str, *, start: bytes, size: int, chunked: bool) -> tuple[Answer, int]:
    """POST `size` bytes until the service answers or stops reading. Returns the answer and the bytes sent."""
    length = "transfer-encoding: chunked" if chunked else f"content-length: {size}"
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {kind}\r\n{length}\r\n\r\n".encode()
    body = start + bytes(PIECE)
    sent, received = 0, b""
    with socket.create_connection(("127.0.0.1", service.port), timeout=60) as connection:
        connection.sendall(head)
        with contextlib.suppress(ConnectionError):
            while sent < size and not select.select([connection], [], [], 0)[0]:
                piece = b"%x\r\n%s\r\n" % (len(body), body) if chunked else body
                connection.sendall(piece)
                sent, body = sent + len(body), bytes(PIECE)
        with contextlib.suppress(ConnectionError):
            while data := connection.recv(65_536):
                received += data
    return refusal_in(received), sent


def problem_of(answer: httpx.Response) -> tuple[int, str, str]:
    """Status, code and sentence of a problem document, also with a 5xx status."""
    assert answer.headers["content-type"] == PROBLEM, answer.text
    document = answer.json()
    assert document["status"] == answer.status_code
    return answer.status_code, document["code"], document["detail"]


def data_url_of(format: str = "PNG", size: tuple[int, int] = (32, 32)) -> str:
    """A red picture as a data URL."""
    file = io.BytesIO()
    Image.new("RGB", size, "red").save(file, format)
    return f"data:image/{format.lower()};base64," + base64.b64encode(file.getvalue()).decode()


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def refused(answer: httpx.Response, status: int, code: str) -> str:
    """The sentence of a problem document."""
    found_status, found_code, detail = problem_of(answer)
    assert (found_status, found_code) == (status, code), answer.text
    return detail


NO_HOSTS = [
    *("x y", "@", "", ":80", "localhost:x", "localhost:80:80", "::1", "[::1", "[localhost]", "localhost,evil.example"),
    *(f"localhost{mark}evil.example" for mark in "#?/\\@;%& "),
    *(f"evil.example{mark}localhost" for mark in ("#", "?", "/", "\\", "@", "\\@", "#@", "/@", ":80@", ":@")),
]
"""What a parser of whole addresses may find `localhost` or an address in, and what is no host at all."""

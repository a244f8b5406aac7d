"""What strangers and careless clients do to connections of the real service, which has few file descriptors."""

from __future__ import annotations

import contextlib
import resource
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from refusals import peak_bytes
from served import ROOT, Service, new_home, until

from imagegen.storage.descriptors import RESERVED

TOKEN = "a-token-of-this-test"
MIB = 2**20
FILES = 512
BEARER = f"authorization: Bearer {TOKEN}\r\n"
CHUNK = b"40000\r\n" + bytes(0x40000) + b"\r\n"


class Limited(Service):
    """A service whose hard limit of open files is FILES, and whose soft limit is lower."""

    def launch(self, *arguments: str) -> None:
        limits = f"ulimit -Sn 256; ulimit -Hn {FILES}; exec "
        command = ["sh", "-c", limits + '"$@"', "sh", sys.executable, "-m", *self._command, *arguments]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=self.environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )


def started(folder: Path, models_dir: Path, sd_server: Path | None, **settings: object) -> Iterator[Service]:
    one = Limited(new_home(folder, models_dir), sd_server, {"tokens": f"test:{TOKEN}"} | settings)
    one.http.headers["authorization"] = f"Bearer {TOKEN}"
    one.start()
    yield one
    one.end()


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> Iterator[Service]:
    """Without an engine; short deadlines."""
    folder = tmp_path_factory.mktemp("limited") / "home"
    yield from started(folder, models_dir, None, header_timeout_s=3, body_timeout_s=3, max_bodies_bytes=100 * MIB)


@pytest.fixture
def patient(tmp_path: Path, models_dir: Path, sd_server: Path) -> Iterator[Service]:
    """With the engine; no deadline helps it."""
    yield from started(tmp_path / "home", models_dir, sd_server, header_timeout_s=3600)


@pytest.fixture(autouse=True)
def many_files() -> None:
    """This process opens more connections than the service takes."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))


def connect(service: Service, sent: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", service.port), timeout=60)
    connection.sendall(sent)
    return connection


def upload(authorization: str = BEARER, framing: str = "transfer-encoding: chunked") -> bytes:
    """The head of an upload."""
    head = (
        f"POST /api/images HTTP/1.1\r\nhost: localhost\r\n{authorization}content-type: image/png\r\n{framing}\r\n\r\n"
    )
    return head.encode()


def received(connection: socket.socket) -> bytes:
    """All that comes until the connection ends."""
    data = b""
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(65_536):
            data += piece
    return data


def test_the_limit_of_open_files_is_raised(limited: Service) -> None:
    assert limited.worker.rlimit(psutil.RLIMIT_NOFILE) == (FILES, FILES)


def test_a_connection_without_a_request_ends(limited: Service) -> None:
    with connect(limited) as silent, connect(limited, b"GET /livez HTTP/1.1\r\nhost: loc") as half:
        assert received(silent) == b""
        answer = received(half)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"code": "request_timeout"' in answer


def test_idle_connections_stop_neither_answers_nor_jobs(patient: Service) -> None:
    first = patient.submit()
    with contextlib.ExitStack() as idle:
        for number in range(2 * FILES):
            idle.enter_context(connect(patient))
            if number % 100 == 0:
                assert httpx.get(f"{patient.url}/livez", trust_env=False, timeout=60).status_code == 200
        assert patient.worker.num_fds() <= FILES - RESERVED + 128
        second = patient.submit()
        for job in (first, second):
            assert patient.ended(job["job_id"])["status"] == "complete"
        assert "no file descriptor is free" not in patient.log.read_text()


def test_a_job_outlasts_a_moment_without_descriptors(patient: Service) -> None:
    assert patient.http.get("/livez").status_code == 200  # this connection stays open for what follows
    worker = patient.worker
    soft, hard = worker.rlimit(psutil.RLIMIT_NOFILE)
    worker.rlimit(psutil.RLIMIT_NOFILE, (3, hard))
    try:
        job = patient.submit()
        until(lambda: "no file descriptor is free" in patient.log.read_text(), "the worker notices")
    finally:
        worker.rlimit(psutil.RLIMIT_NOFILE, (soft, hard))
    assert patient.ended(job["job_id"])["status"] == "complete"


@pytest.mark.parametrize("framing", ["transfer-encoding: chunked", f"content-length: {10**12}"])
def test_a_strangers_body_is_not_read_after_its_refusal(limited: Service, framing: str) -> None:
    sent = 0
    with connect(limited, upload(authorization="", framing=framing)) as connection:
        with contextlib.suppress(ConnectionError):
            while sent < 200 * MIB:
                connection.sendall(CHUNK)
                sent += len(CHUNK)
        assert sent < 32 * MIB, "what fits into the buffers of the sockets"
        assert received(connection).startswith(b"HTTP/1.1 401 ")


def test_a_short_request_that_is_refused_keeps_its_connection(limited: Service) -> None:
    head = b"POST /api/generate HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\n\r\n"
    with connect(limited) as connection, connection.makefile("rb") as answers:
        for _ in range(3):
            connection.sendall(head)
            first = answers.readline()
            assert first.startswith(b"HTTP/1.1 401 ")
            length = 0
            while (line := answers.readline()) != b"\r\n":
                assert line != b"connection: close\r\n"
                if line.startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            answers.read(length)
            connection.sendall(b"body")  # after the answer


def test_unfinished_uploads_cost_no_memory_and_the_cap_holds(limited: Service) -> None:
    with contextlib.ExitStack() as stack, peak_bytes(limited.worker) as grown:
        connections = [stack.enter_context(connect(limited, upload())) for _ in range(40)]
        for connection in connections:
            with contextlib.suppress(ConnectionError):  # it was refused meanwhile
                for _ in range(24 * 4):
                    connection.sendall(CHUNK)
        assert stat.S_IMODE((limited.home / "bodies").stat().st_mode) == 0o700
        answers = [received(connection) for connection in connections]
        statuses = {answer.split()[1] for answer in answers if answer}
        assert statuses <= {b"503", b"408"}
        assert sum(b'"code":"uploads_busy"' in answer for answer in answers) > 20
        assert all(b"retry-after: " in answer for answer in answers if b" 503 " in answer[:20])
        assert any(b'"code":"request_timeout"' in answer for answer in answers)
        assert grown() < 80 * MIB
    until(lambda: limited.worker.num_fds() < 64, "their files are closed")
    assert list((limited.home / "bodies").iterdir()) == []


def test_short_requests_pass_while_uploads_are_refused(limited: Service) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            one = stack.enter_context(connect(limited, upload(framing=f"content-length: {25 * MIB}")))
            one.sendall(bytes(24 * MIB))
        refused = limited.http.post(
            "/api/images", content=bytes(24 * MIB), headers={"content-type": "image/png", "expect": "100-continue"}
        )
        assert (refused.status_code, refused.json()["code"]) == (503, "uploads_busy")
        answer = limited.http.post("/api/generate", json={"prompt": "", "width": 64})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def test_a_tls_handshake_that_never_ends_counts_and_makes_room(tmp_path: Path, models_dir: Path) -> None:
    one = Limited(new_home(tmp_path / "home", models_dir), None, {"tls": "auto", "max_connections": 32})
    one.http = httpx.Client(base_url=f"https://127.0.0.1:{one.port}", verify=False, trust_env=False)
    one.start()
    try:
        with contextlib.ExitStack() as stack:
            for _ in range(200):
                stack.enter_context(connect(one))
            until(lambda: one.worker.num_fds() < 128, "most of them are closed")
            with httpx.Client(base_url=one.http.base_url, verify=False, trust_env=False) as client:
                assert client.get("/livez").status_code == 200
    finally:
        one.end()

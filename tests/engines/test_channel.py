"""The channel that is linked into the real sd-server, spoken to in raw frames. The tiny model."""

from __future__ import annotations

import http.client
import json
import os
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from served import Require

from imagegen.engine_build import probe

DEADLINE_S = 300.0
HELLO, PHASE, STEP, LOAD, TILE, PREVIEW, END = range(1, 8)  # docs/engine.md, The channel
DRAWN, FAILED, STOPPED = range(3)
NO_PREVIEW, PROJECTION, TAE = range(3)
Frame = tuple[int, bytes]


class Unix(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=DEADLINE_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(DEADLINE_S)
        self.sock.connect(str(self._path))


class Server:
    """A running sd-server, the service's end of its channel, and its HTTP socket."""

    def __init__(self, binary: Path, argv: list[str], folder: Path) -> None:
        self.path = folder / "s"
        loras = folder / "loras"
        loras.mkdir()
        self.ours, theirs = socket.socketpair()
        self.ours.settimeout(DEADLINE_S)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # the least there is: a preview does not fit
        self.rest = b""
        environment = {"IMAGEGEN_ENGINE_FD": str(theirs.fileno()), "IMAGEGEN_ENGINE_SOCKET": str(self.path)}
        self.process = subprocess.Popen(
            [binary, *argv, "--listen-port", "1", "-t", "1", "--lora-model-dir", loras],
            env={**os.environ, **environment, "GGML_NO_BACKTRACE": "1"},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        theirs.close()

    def ready(self) -> None:
        """Wait until the model is loaded and the socket answers."""
        ends = time.monotonic() + DEADLINE_S
        while True:
            try:
                self.http("GET", "/v1/models")
                return
            except OSError:
                assert self.process.poll() is None
                assert time.monotonic() < ends
                time.sleep(0.05)

    def http(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        connection = Unix(self.path)
        connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
        answer = json.load(connection.getresponse())
        connection.close()
        return dict(answer)

    def tell(self, kind: int, payload: bytes) -> None:
        self.ours.sendall(struct.pack("<IB", len(payload), kind) + payload)

    def announce(self, number: int, preview: int = NO_PREVIEW) -> None:
        self.tell(1, struct.pack("<IBI", number, preview, 1))

    def stop(self, number: int) -> None:
        self.tell(2, struct.pack("<I", number))

    def draw(self, steps: int = 3) -> str:
        sampling = {"sample_steps": steps, "guidance": {"txt_cfg": 1.0}}
        body = {"prompt": "a", "width": 64, "height": 64, "seed": 7, "sample_params": sampling}
        return str(self.http("POST", "/sdcpp/v1/img_gen", body)["id"])

    def result(self, job: str) -> tuple[str, str | None]:
        """The job's state at its end, and its picture in base64."""
        ends = time.monotonic() + DEADLINE_S
        while (answer := self.http("GET", f"/sdcpp/v1/jobs/{job}"))["status"] in {"queued", "generating"}:
            assert time.monotonic() < ends
            time.sleep(0.02)
        images = (answer.get("result") or {}).get("images") or [{}]
        return str(answer["status"]), images[0].get("b64_json")

    def frame(self) -> Frame:
        while len(self.rest) < 5 or len(self.rest) < 5 + struct.unpack_from("<I", self.rest)[0]:
            got = self.ours.recv(65536)
            assert got, "the engine closed the channel"
            self.rest += got
        end = 5 + struct.unpack_from("<I", self.rest)[0]
        one = self.rest[4], self.rest[5:end]
        self.rest = self.rest[end:]
        return one

    def until_end(self, number: int) -> tuple[int, list[Frame]]:
        """The outcome of picture `number`, and the frames before it."""
        frames: list[Frame] = []
        while True:
            kind, payload = self.frame()
            if kind == END:
                assert struct.unpack_from("<I", payload)[0] == number
                return payload[4], frames
            frames.append((kind, payload))


@pytest.fixture
def server(sd_server: Path, tiny_argv: list[str], require: Require) -> Iterator[Server]:
    require("an sd-server with the channel", probe.channel_version(sd_server) == 1)
    with tempfile.TemporaryDirectory() as short:  # a Unix path has at most 107 bytes
        one = Server(sd_server, tiny_argv, Path(short))
        yield from _running(one)


def _running(one: Server) -> Iterator[Server]:
    try:
        one.ready()
        yield one
    finally:
        one.process.kill()
        one.process.wait()
        one.ours.close()


def test_a_picture_tells_its_phases_steps_and_previews(server: Server) -> None:
    assert server.frame() == (HELLO, struct.pack("<H", 1))
    server.announce(1, TAE)
    job = server.draw(steps=3)
    outcome, frames = server.until_end(1)
    assert outcome == DRAWN
    assert server.result(job)[0] == "completed"
    loads = [struct.unpack("<IIQf", payload) for kind, payload in frames if kind == LOAD]
    assert loads and loads[-1][2] > 0
    assert [payload[4] for kind, payload in frames if kind == PHASE] == [1, 2, 3]
    steps = [struct.unpack("<IIIf", payload)[:3] for kind, payload in frames if kind == STEP]
    assert [step for step in steps if step[1]] == [(1, 1, 3), (1, 2, 3), (1, 3, 3)]
    previews = [payload for kind, payload in frames if kind == PREVIEW]
    assert previews
    for payload in previews:
        _, _, width, height = struct.unpack_from("<IIII", payload)
        assert len(payload) == 16 + 3 * width * height
        assert (width, height) == (64, 64)


def test_stops_early_twice_and_late_leave_the_next_picture_alone(server: Server) -> None:
    server.announce(1)
    before = server.result(server.draw())
    assert server.until_end(1)[0] == DRAWN
    server.stop(1)  # after its end
    server.announce(2)
    server.stop(2)  # before its first step
    stopped = server.result(server.draw(steps=50))
    outcome, frames = server.until_end(2)
    assert outcome == STOPPED
    assert not [1 for kind, payload in frames if kind == STEP and struct.unpack_from("<II", payload)[1] > 0]
    assert stopped == ("failed", None)
    server.announce(3)
    job = server.draw(steps=100)
    while server.frame()[0] != STEP:
        pass
    server.stop(3)
    server.stop(3)
    outcome, frames = server.until_end(3)
    assert outcome == STOPPED
    assert server.result(job) == ("failed", None)
    server.announce(4)
    assert server.result(server.draw()) == before
    assert server.until_end(4)[0] == DRAWN


def test_a_reader_that_reads_nothing_does_not_hold_a_picture(server: Server) -> None:
    for number in range(1, 6):
        server.announce(number, TAE)
        assert server.result(server.draw(steps=2))[0] == "completed"
    outcomes = []
    previews = 0
    while len(outcomes) < 5:
        kind, payload = server.frame()
        previews += kind == PREVIEW
        if kind == END:
            outcomes.append(struct.unpack("<IB", payload))
    assert outcomes == [(number, DRAWN) for number in range(1, 6)]
    assert previews <= 1  # each picture has one; those that find the socket full are dropped


@pytest.mark.parametrize("busy", [True, False])
def test_the_engine_ends_when_the_service_closes_its_end(server: Server, busy: bool) -> None:
    if busy:
        server.announce(1)
        server.draw(steps=100)
        while server.frame()[0] != STEP:
            pass
    server.ours.close()
    assert server.process.wait(DEADLINE_S) == 0


def test_a_frame_too_long_to_be_one_ends_the_engine(server: Server) -> None:
    server.ours.sendall(b"\xff" * 5)
    assert server.process.wait(DEADLINE_S) == 1

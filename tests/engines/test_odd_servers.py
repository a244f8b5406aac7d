"""What the adapter makes of servers that the real engine cannot be brought to be: slow, chatty, of another version.

A small HTTP server stands in for the engine; it is started, watched and ended like the real one.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from imagegen.engines.base import DrawRequest, EngineError, LoadProgress
from imagegen.engines.sdcpp.adapter import SdcppServerAdapter

Ask = Callable[..., DrawRequest]

STAND_IN = """
import http.server, json, os, sys, time

port = int(sys.argv[sys.argv.index("--listen-port") + 1])
mode = sys.argv[1]
answers = {
    "other version": {"status": "done"},
    "no picture": {"status": "completed", "result": {"images": []}},
    "not base64": {"status": "completed", "result": {"images": [{"b64_json": "!"}]}},
    "not a png": {"status": "completed", "result": {"images": [{"b64_json": "AAAA" * 20}]}},
    "failed": {"status": "failed", "error": {"code": "generation_failed", "message": "no results"}},
    "out of memory": {"status": "failed", "error": {"code": "generation_failed", "message": "no results"}},
    "no object": [],
}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        if self.path == "/v1/models":
            return self.answer(503 if mode == "never ready" else 200, {})
        if mode == "expired":
            return self.answer(410, {"error": "job expired"})
        self.answer(200, answers[mode])

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        if mode == "hangs up":
            self.close_connection = True
            return
        if mode == "full":
            return self.answer(429, {"error": "job queue is full"})
        if mode == "out of memory":
            print("[ERROR] ggml_extend.hpp:69 - cudaMalloc failed: out of memory", file=sys.stderr, flush=True)
        self.answer(202, {"id": "job_1"})


if mode == "slow load":
    for done in range(1, 16):  # 3.75 s
        print(f"\\r  |{'=' * 50}| {done}/15 - 1.00MB/s\\x1b[K", end="", flush=True)
        time.sleep(0.25)
if mode == "standing load":
    while True:
        print(f"\\r  |{'=' * 50}| 3/15 - 1.00MB/s\\x1b[K", end="", flush=True)
        time.sleep(0.05)
if mode == "chatty":
    for _ in range(1000):
        print("x" * 10_000)
if mode == "helps":
    print("usage: stand-in")
    sys.exit()
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture
def stand_in(tmp_path: Path) -> Callable[..., SdcppServerAdapter]:
    program = tmp_path / "stand-in"
    program.write_text(f"#!{sys.executable}\n{STAND_IN}")
    program.chmod(0o755)

    def make(mode: str, load_stall_s: float = 60.0) -> SdcppServerAdapter:
        return SdcppServerAdapter(program, [mode], 1, tmp_path / "work", load_stall_s, channel=False)

    return make


async def outcome(adapter: SdcppServerAdapter, request: DrawRequest) -> EngineError:
    await adapter.start(lambda _: None)
    try:
        with pytest.raises(EngineError) as raised:
            await adapter.generate(request, lambda _: None)
        assert adapter.pid is not None, "it lives"
        return raised.value
    finally:
        await adapter.stop()


@pytest.mark.parametrize(
    ("mode", "code", "words"),
    [
        ("other version", "draw_failed", "has to be the version"),
        ("no picture", "draw_failed", "has to be the version"),
        ("not base64", "draw_failed", "has to be the version"),
        ("no object", "draw_failed", "has to be the version"),
        ("not a png", "draw_failed", "not a PNG"),
        ("failed", "draw_failed", "could not draw it: no results"),
        ("out of memory", "out_of_vram", "ask for a smaller one"),
        ("expired", "draw_failed", "lost the picture: job expired"),
        ("full", "draw_failed", "refused the picture: job queue is full"),
        ("hangs up", "draw_failed", "broke its connection"),
    ],
)
def test_every_odd_answer_is_an_error_that_says_so(
    stand_in: Callable[..., SdcppServerAdapter], ask: Ask, mode: str, code: str, words: str
) -> None:
    error = asyncio.run(asyncio.wait_for(outcome(stand_in(mode), ask()), 60))
    assert error.code == code and words in error.detail


def start(adapter: SdcppServerAdapter) -> list[LoadProgress]:
    heard: list[LoadProgress] = []

    async def scenario() -> None:
        try:
            await adapter.start(heard.append)
        finally:
            await adapter.stop()

    asyncio.run(asyncio.wait_for(scenario(), 60))
    return heard


def test_a_long_load_that_moves_is_not_given_up(stand_in: Callable[..., SdcppServerAdapter]) -> None:
    heard = start(stand_in("slow load", load_stall_s=2.5))
    assert [round(progress.fraction * 15) for progress in heard] == [*range(1, 16), 15]


def test_a_load_that_repeats_itself_is_given_up(stand_in: Callable[..., SdcppServerAdapter]) -> None:
    with pytest.raises(EngineError, match="stood still at 20%") as raised:
        start(stand_in("standing load", load_stall_s=1.0))
    assert raised.value.code == "load_failed"


def test_a_server_that_is_never_ready_is_given_up(stand_in: Callable[..., SdcppServerAdapter]) -> None:
    with pytest.raises(EngineError, match="stood still at 0%"):
        start(stand_in("never ready", load_stall_s=1.0))


def test_a_program_that_ends_with_0_before_it_listens_has_its_port(
    stand_in: Callable[..., SdcppServerAdapter],
) -> None:
    with pytest.raises(EngineError, match=r"stopped by itself with exit status 0.*usage: stand-in"):
        start(stand_in("helps"))


def test_much_output_does_not_block_a_server(stand_in: Callable[..., SdcppServerAdapter]) -> None:
    assert start(stand_in("chatty"))

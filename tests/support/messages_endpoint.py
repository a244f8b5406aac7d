"""A stand-in for a language model on loopback: it answers the messages API with tool calls and keeps the results.

Claude Code does not wait for MCP servers that start: until the tool is there, the stand-in calls WaitForMcpServers.

The tests run the real Claude Code with it. Only the model's answers are fixed.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

CALL = "toolu_1"
WAIT = "WaitForMcpServers"
MAX_WAITS = 3


@dataclass
class Endpoint:
    """Calls `tool` with `arguments` once it is offered. `results`: the tool results sent to the model.

    requests: every request to the model, as JSON.
    """

    tool: str
    arguments: dict[str, Any]
    url: str = ""
    offered: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: str = ""
    results: list[dict[str, Any]] = field(default_factory=list)
    waits: int = 0

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The model's answer: first the tool call, then a final text after its result."""
        tools = {tool["name"]: tool for tool in request.get("tools", [])}
        self.offered |= tools
        self.requests += json.dumps(request)
        blocks = [b for m in request["messages"] if isinstance(m["content"], list) for b in m["content"]]
        results = [block for block in blocks if block.get("type") == "tool_result"]
        self.results = [block for block in results if block["tool_use_id"] == CALL] or self.results
        if self.tool in tools and not self.results:
            return _call(CALL, self.tool, self.arguments)
        if WAIT in tools and not self.results and self.waits < MAX_WAITS:
            self.waits += 1
            return _call(f"toolu_wait_{self.waits}", WAIT, {})
        return _message([{"type": "text", "text": "done"}], "end_turn")

    def content(self) -> list[dict[str, Any]]:
        """The content blocks of the only result."""
        assert len(self.results) == 1, self.results
        content = self.results[0]["content"]
        return [{"type": "text", "text": content}] if isinstance(content, str) else content

    def text(self) -> str:
        return "\n".join(block["text"] for block in self.content() if block["type"] == "text")


@dataclass(frozen=True)
class Step:
    """A tool call of a session. `arguments`: of the texts of all results so far."""

    tool: str
    arguments: Callable[[list[str]], dict[str, Any]]


@dataclass
class Session:
    """Makes the calls of `steps` in their order, over several turns of the user: a text ends a turn.

    texts: of each call's result. pictures: that came with them. tools: as the newest request describes them.
    """

    steps: Sequence[Step | str]
    prefix: str
    url: str = ""
    texts: list[str] = field(default_factory=list)
    pictures: int = 0
    tools: list[dict[str, Any]] = field(default_factory=list)
    done: int = 0
    waits: int = 0
    _read_steps: set[int] = field(default_factory=set)

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The next step, once its tool is offered. A request for something else, such as a title, gets a word."""
        tools = {tool["name"]: tool for tool in request.get("tools", [])}
        mine = [tool for name, tool in tools.items() if name.startswith(self.prefix)]
        if not (mine or WAIT in tools) or self.done == len(self.steps):
            return _message([{"type": "text", "text": "done"}], "end_turn")
        self.tools = mine or self.tools
        self._read(request)
        step = self.steps[self.done]
        if isinstance(step, Step) and self.prefix + step.tool not in tools and self.waits < MAX_WAITS:
            self.waits += 1
            return _call(f"toolu_wait_{self.waits}", WAIT, {})
        self.done += 1
        if isinstance(step, str):
            return _message([{"type": "text", "text": step}], "end_turn")
        return _call(f"toolu_{self.done}", self.prefix + step.tool, step.arguments(self.texts))

    def _read(self, request: dict[str, Any]) -> None:
        """Keep the result of the newest call. Each request repeats the conversation."""
        blocks = [b for m in request["messages"] if isinstance(m["content"], list) for b in m["content"]]
        results = {block["tool_use_id"]: block for block in blocks if block.get("type") == "tool_result"}
        if (new := results.get(f"toolu_{self.done}")) and self.done not in self._read_steps:
            self._read_steps.add(self.done)
            content = new["content"]
            parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
            self.texts.append("\n".join(part["text"] for part in parts if part["type"] == "text"))
            self.pictures += sum(part["type"] == "image" for part in parts)


def _call(call: str, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return _message([{"type": "tool_use", "id": call, "name": tool, "input": arguments}], "tool_use")


def _message(blocks: list[dict[str, Any]], stop: str) -> dict[str, Any]:
    usage = {"input_tokens": 1, "output_tokens": 1}
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "stand-in", "stop_sequence": None}
    return head | {"content": blocks, "stop_reason": stop, "usage": usage}


def _events(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The message as the API streams it."""
    yield {"type": "message_start", "message": message | {"content": [], "stop_reason": None}}
    for index, block in enumerate(message["content"]):
        if block["type"] == "text":
            empty, delta = {"text": ""}, {"type": "text_delta", "text": block["text"]}
        else:
            empty, delta = {"input": {}}, {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        yield {"type": "content_block_start", "index": index, "content_block": block | empty}
        yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    ended = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    yield {"type": "message_delta", "delta": ended, "usage": {"output_tokens": 1}}
    yield {"type": "message_stop"}


@contextlib.contextmanager
def endpoint(tool: str, arguments: dict[str, Any]) -> Iterator[Endpoint]:
    """The stand-in, listening on loopback."""
    model = Endpoint(tool, arguments)
    with listening(model):
        yield model


@contextlib.contextmanager
def listening(model: Endpoint | Session) -> Iterator[None]:
    """Let `model` answer at `model.url`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
            if not self.path.startswith("/v1/messages") or "count_tokens" in self.path:
                self._send("application/json", b'{"input_tokens": 10}')
            elif request.get("stream"):
                lines = (f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in _events(model.answer(request)))
                self._send("text/event-stream", "".join(lines).encode())
            else:
                self._send("application/json", json.dumps(model.answer(request)).encode())

        def do_GET(self) -> None:
            self._send("application/json", b"{}")

        do_HEAD = do_GET

        def _send(self, kind: str, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    model.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()

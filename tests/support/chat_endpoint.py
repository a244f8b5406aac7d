"""A stand-in for a language model at an OpenAI-compatible address on loopback: a function of the messages answers."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

Answer = Callable[[list[dict[str, Any]]], dict[str, Any]]


def calls(tool: str, **arguments: Any) -> dict[str, Any]:
    """A message with one tool call."""
    function = {"name": tool, "arguments": json.dumps(arguments)}
    return {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": function}]}


def says(text: str) -> dict[str, Any]:
    """A message that ends the conversation."""
    return {"role": "assistant", "content": text}


@contextlib.contextmanager
def chat_endpoint(answer: Answer, requests: list[dict[str, Any]]) -> Iterator[str]:
    """Yields the address up to /v1. `requests` gets the body of each request."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)))
            requests.append(body | {"path": self.path, "authorization": self.headers.get("authorization")})
            choice = {"index": 0, "message": answer(body["messages"]), "finish_reason": "stop"}
            content = json.dumps({"choices": [choice], "usage": {"prompt_tokens": 100}}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()

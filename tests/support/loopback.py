"""An HTTP server of the tests on loopback, whose answers can be held back."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class LoopbackServer:
    """Serves with `handler`, whose `owner` is this object. `held` is set while an answer waits for `release()`."""

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        self.held = threading.Event()
        self._go = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (handler,), {"owner": self}))
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_failure: None  # a client that stops resets its connections
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def wait_to_go(self) -> None:
        self.held.set()
        self._go.wait(60)

    def release(self) -> None:
        self._go.set()

    def hold_again(self) -> None:
        """Hold back later answers too: without this, `release` releases them all."""
        self.held.clear()
        self._go.clear()

    def close(self) -> None:
        self.release()
        self._server.shutdown()
        self._server.server_close()

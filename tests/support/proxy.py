"""A reverse proxy on loopback: it strips a prefix from the path, forwards the request and streams the answer.

It closes a connection that is silent for too long, as proxies do.
"""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "host"}
PIECE = 65_536


@contextlib.contextmanager
def reverse_proxy(
    to_port: int,
    prefix: str,
    headers: Mapping[str, str],
    *,
    silence_s: float = 60,
    seen: Callable[[bytes], object] = lambda _piece: None,
    loses: Callable[[str], bool] = lambda _request: False,
) -> Iterator[str]:
    """Yields the proxy's address with the prefix. `headers` replace request headers of the same name. The Host header
    names the service, as in nginx's default. Paths without the prefix get 404.

    silence_s: an answer that pauses longer ends: with 504 before its head, else by closing the connection.
    seen: called with each piece of an answer.
    loses: called with method and path; if true, the connection is closed once the service has answered.
    """

    class Handler(BaseHTTPRequestHandler):
        def _pass_on(self) -> None:
            if not self.path.startswith(f"{prefix}/"):
                self.send_error(404, "not under the prefix")
                return
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            kept = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
            ours = {name.lower() for name in headers}
            sent = {name: value for name, value in kept.items() if name.lower() not in ours} | dict(headers)
            upstream = http.client.HTTPConnection("127.0.0.1", to_port, timeout=silence_s)
            try:
                upstream.request(self.command, self.path.removeprefix(prefix), body or None, sent)
                answer = upstream.getresponse()
                if loses(f"{self.command} {self.path}"):
                    self.close_connection = True
                else:
                    self._give_back(answer)
            except TimeoutError:
                self.send_error(504, "the service is silent")
            finally:
                upstream.close()

        def _give_back(self, answer: http.client.HTTPResponse) -> None:
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in HOP_BY_HOP:
                    self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(OSError):  # the client has disconnected, or the service is silent
                while piece := answer.read1(PIECE):
                    seen(piece)
                    self.wfile.write(piece)
                    self.wfile.flush()
            self.close_connection = True

        do_GET = do_POST = do_DELETE = do_PUT = do_HEAD = _pass_on

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{prefix}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

"""A reverse proxy on loopback: it takes a prefix off the path, passes everything on, and streams the answer."""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "host"}
PIECE = 65_536


@contextlib.contextmanager
def reverse_proxy(to_port: int, prefix: str, headers: Mapping[str, str]) -> Iterator[str]:
    """The proxy's address with the prefix. `headers` replace those of the same name; the Host header is the
    service's own, as nginx sends it unless it is told otherwise. Another path is answered with 404."""

    class Handler(BaseHTTPRequestHandler):
        def _pass_on(self) -> None:
            if not self.path.startswith(f"{prefix}/"):
                self.send_error(404, "not under the prefix")
                return
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            kept = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
            ours = {name.lower() for name in headers}
            sent = {name: value for name, value in kept.items() if name.lower() not in ours} | dict(headers)
            upstream = http.client.HTTPConnection("127.0.0.1", to_port, timeout=60)
            try:
                upstream.request(self.command, self.path.removeprefix(prefix), body or None, sent)
                self._give_back(upstream.getresponse())
            finally:
                upstream.close()

        def _give_back(self, answer: http.client.HTTPResponse) -> None:
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in HOP_BY_HOP:
                    self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(OSError):  # the client has left
                while piece := answer.read1(PIECE):
                    self.wfile.write(piece)
                    self.wfile.flush()
            self.close_connection = True

        do_GET = do_POST = do_DELETE = do_PUT = do_HEAD = _pass_on

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{prefix}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

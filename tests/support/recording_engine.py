"""An engine that records: a program in place of sd-server that forwards every request to the real one and logs it.

`install` writes the program. The service starts it as IMAGEGEN_SD_SERVER. It listens on the engine's socket, so it
records what the service really sent. The channel is the real engine's.
"""

from __future__ import annotations

import base64
import io
import json
import sys
from pathlib import Path
from typing import Any

from PIL import Image

_PROGRAM = """#!{python}
import ctypes, http.client, http.server, json, os, signal, socket, socketserver, subprocess, sys, tempfile
import threading, time

REAL, RECORD, FLAT, RENAMED = {real!r}, {record!r}, {flat!r}, {renamed!r}
arguments = sys.argv[1:]
if "--help" in arguments:
    text = subprocess.run([REAL, "--help"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout.decode()
    for old, new in RENAMED.items():
        text = text.replace(old, new)
    sys.exit(sys.stdout.write(text) and 0)


def write_down(what, value):
    with open(RECORD, "a") as record:
        record.write(json.dumps([what, value]) + "\\n")


write_down("argv", arguments)
path, channel = os.environ["IMAGEGEN_ENGINE_SOCKET"], int(os.environ["IMAGEGEN_ENGINE_FD"])
behind = tempfile.mkdtemp() + "/s"
new_words = [word for new in RENAMED.values() for word in new.split()]
passed_on = [word for word in arguments if word not in new_words and not word.startswith("qwen_image_")]


def die_with_us():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)


class Connection(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(behind)


engine = subprocess.Popen(
    [REAL, *passed_on],
    preexec_fn=die_with_us,
    pass_fds=[channel],
    env=os.environ | {{"IMAGEGEN_ENGINE_SOCKET": behind}},
)
os.close(channel)
while engine.poll() is None:
    try:
        Connection("localhost", timeout=1).connect()
        break
    except OSError:
        time.sleep(0.02)
flat_ids = set()


class PassOn(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.command == "POST":
            write_down("request", json.loads(body))
        connection = Connection("localhost", timeout=60)
        connection.request(self.command, self.path, body, {{"content-type": "application/json", "connection": "close"}})
        answer = connection.getresponse()
        data = answer.read()
        if self.command == "POST" and FLAT["which"] and FLAT["which"].pop(0):
            flat_ids.add(json.loads(data)["id"])
        elif self.path.rpartition("/")[2] in flat_ids:
            job = json.loads(data)
            if job["status"] == "completed":
                job["result"]["images"][0]["b64_json"] = FLAT["png"]
                data = json.dumps(job).encode()
        self.send_response(answer.status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_POST = do_GET

    def log_message(self, *_arguments):
        pass


class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_UNIX

    def server_bind(self):
        socketserver.TCPServer.server_bind(self)

    def get_request(self):
        connection, _ = self.socket.accept()
        return connection, ("engine", 0)


server = Server(path, PassOn)
threading.Thread(target=lambda: os._exit(engine.wait() & 127), daemon=True).start()
server.serve_forever()
"""


class Recording:
    """The command lines and requests that the installed engine received."""

    def __init__(self, binary: Path, record: Path) -> None:
        self.binary, self._record = binary, record

    def _all(self, what: str) -> list[Any]:
        lines = [json.loads(line) for line in self._record.read_text().splitlines()]
        return [value for kind, value in lines if kind == what]

    def command_lines(self) -> list[list[str]]:
        return self._all("argv")

    def requests(self) -> list[dict[str, Any]]:
        """The bodies of `POST /sdcpp/v1/img_gen`, in order."""
        return self._all("request")


def install(
    folder: Path, sd_server: Path, *, flat: list[bool] | None = None, renamed: dict[str, str] | None = None
) -> Recording:
    """flat: which of the first pictures are all black (64x64). renamed: words in `--help` and their replacements."""
    black = io.BytesIO()
    Image.new("RGB", (64, 64)).save(black, "PNG")
    program = folder / "recording-engine"
    record = folder / "record.jsonl"
    record.touch()
    program.write_text(
        _PROGRAM.format(
            python=sys.executable,
            real=str(sd_server),
            record=str(record),
            flat={"which": flat or [], "png": base64.b64encode(black.getvalue()).decode()},
            renamed=renamed or {},
        )
    )
    program.chmod(0o755)
    return Recording(program, record)

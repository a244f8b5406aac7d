"""sd-server started directly, with the service's arguments and a minimal driver."""

from __future__ import annotations

import base64
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/support"))

from served import free_port

from imagegen.engines.process import engine_environment

POLL_S = 0.005


class Bare:
    """An engine process on its own port. command: the binary and its model's flags."""

    def __init__(self, command: Sequence[str], workdir: Path, start_limit_s: float = 300.0) -> None:
        (workdir / "loras").mkdir(parents=True, exist_ok=True)
        self._port = free_port()
        self._command = [
            *command, "--listen-ip", "127.0.0.1", "--listen-port", str(self._port),
            "--lora-model-dir", str(workdir / "loras"),
        ]  # fmt: skip
        self._workdir, self._start_limit_s = workdir, start_limit_s
        self._process: subprocess.Popen[bytes] | None = None
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{self._port}", trust_env=False, timeout=60)

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def load(self) -> float:
        """Start the engine. Returns the seconds until it answers. Raises SystemExit if it does not."""
        environment = engine_environment(os.environ)
        began = time.perf_counter()
        with (self._workdir / "engine.log").open("ab") as log:
            self._process = subprocess.Popen(self._command, cwd=self._workdir, env=environment, stdout=log, stderr=log)
        while not self._answers():
            if self._process.poll() is not None:
                raise SystemExit(f"sd-server ended with {self._process.returncode}: see {log.name}")
            if time.perf_counter() - began > self._start_limit_s:
                raise SystemExit(f"sd-server did not answer within {self._start_limit_s:.0f} s: see {log.name}")
            time.sleep(POLL_S)
        return time.perf_counter() - began

    def _answers(self) -> bool:
        with socket.socket() as knock:  # cheaper than a refused request, which would slow the load
            if knock.connect_ex(("127.0.0.1", self._port)) != 0:
                return False
        try:
            return self._http.get("/v1/models").status_code == 200
        except httpx.TransportError:
            return False

    def draw(self, request: dict[str, Any]) -> bytes:
        """Draw one picture. Returns a PNG. request: fields of the engine's native API beside the common ones."""
        body = {"batch_count": 1, "embed_image_metadata": False, "output_format": "png"} | request
        job = self._http.post("/sdcpp/v1/img_gen", json=body).raise_for_status().json()["id"]
        while True:
            answer = self._http.get(f"/sdcpp/v1/jobs/{job}").json()
            if answer["status"] == "completed":
                return base64.b64decode(answer["result"]["images"][0]["b64_json"])
            if answer["status"] == "failed":
                raise SystemExit(f"the engine failed: {answer}")
            time.sleep(POLL_S)

    def unload(self) -> None:
        """Kill the process, if any."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

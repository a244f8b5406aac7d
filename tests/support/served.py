"""A running service for tests: its processes, its address, and a client."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil

from imagegen.images.png import without_manifest

ROOT = Path(__file__).parents[2]
ENDLESS: dict[str, Any] = {"width": 256, "height": 256, "steps": 100, "n": 4}
"""A job of the tiny model that is met at work, and then cancelled or killed: half a minute on a fast core."""
DEADLINE_S = 300.0  # the second engine imports torch, which takes most of a minute on a busy machine


class Service:
    """`bentoml serve service:ImageGen` on a loopback port, one engine thread, its state in `home`."""

    _command: tuple[str, ...] = ("bentoml", "serve", "service:ImageGen")

    def __init__(self, home: Path, sd_server: Path | None, settings: dict[str, object]) -> None:
        self.home, self.port = home, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        own: dict[str, object] = {"config": ""} | ({"sd_server": sd_server} if sd_server else {})
        self._settings = {"home": home, "threads": 1, "model": "tiny"} | own | settings
        self._process: subprocess.Popen[bytes] | None = None
        self.log = home.parent / f"{home.name}-{self.port}.log"
        self.http = httpx.Client(base_url=self.url, timeout=60, trust_env=False)

    def environment(self, **more: object) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("IMAGEGEN_", "BENTOML_"))}
        own = self._settings | {"port": self.port} | more
        return kept | {"BENTOML_DO_NOT_TRACK": "1"} | {f"IMAGEGEN_{k.upper()}": str(v) for k, v in own.items()}

    def launch(self, *arguments: str) -> None:
        """Start the processes without waiting."""
        command = [sys.executable, "-m", *self._command, *arguments]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=self.environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def start(self, timeout: float = DEADLINE_S) -> None:
        """Start the service and wait until it accepts jobs."""
        self.launch()
        try:
            self.until_ready(timeout)
        except AssertionError:
            # circus, BentoML's supervisor, picks free ports and binds them later: another process may have taken them.
            if "Address already in use" not in self.tail():
                raise
            self.launch()
            self.until_ready(timeout)

    def until_ready(self, timeout: float = DEADLINE_S) -> None:
        def ready() -> bool:
            assert self._process is not None
            if self._process.poll() is not None:
                raise AssertionError(f"the service ended with {self._process.returncode}:\n{self.tail()}")
            with contextlib.suppress(httpx.TransportError):
                return self.http.get("/readyz").status_code == 200
            return False

        until(ready, "the service is ready", timeout)

    # ---- its processes ------------------------------------------------------------------------

    @contextlib.contextmanager
    def engine_held(self, job_id: str) -> Iterator[None]:
        """Suspend the engine while it samples this job's picture, which has to last for seconds (`until_drawing`)."""
        self.until_drawing(job_id)
        with self._suspended():
            yield

    @contextlib.contextmanager
    def engine_suspended(self, model: str | None = None) -> Iterator[None]:
        """The model is loaded, and its engine suspended: the next job runs as long as the block lasts.

        The engine gets that job, however small it is, and draws it after the block. No step of it is seen before.
        The model must not be unloaded soon by itself: use the shared service, or `idle_timeout="never"`.
        """
        until(self.is_unused, "the jobs before it have ended")
        engine, wanted = self.status()["engine"], model or self._settings["model"]
        if (engine["state"], engine["model"]) != ("ready", wanted):
            self.draw(model=wanted)
        with self._suspended():
            yield

    @contextlib.contextmanager
    def at_work(self, prompt: str = "a red circle", **fields: Any) -> Iterator[dict[str, Any]]:
        """A job that runs as long as the block lasts (`engine_suspended`)."""
        with self.engine_suspended(fields.get("model")):
            job_id = self.submit(prompt, **fields)["job_id"]
            until(lambda: self.job(job_id)["status"] == "running", "the job is at work")
            self.until_state("drawing")
            yield self.job(job_id)

    @contextlib.contextmanager
    def _suspended(self) -> Iterator[None]:
        pid = self.engine_pid
        assert pid is not None, "its model was unloaded"
        engine = psutil.Process(pid)
        engine.suspend()
        try:
            yield
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):
                engine.resume()

    @property
    def supervisor(self) -> psutil.Process:
        assert self._process is not None
        return psutil.Process(self._process.pid)

    @property
    def engine_pid(self) -> int | None:
        return self.status()["engine"]["pid"]

    @property
    def worker(self) -> psutil.Process:
        """The BentoML worker process. A killed one may still be a zombie, and its successor may not be there yet."""
        found: list[psutil.Process] = []

        def is_there() -> bool:
            for process in self.supervisor.children():
                with contextlib.suppress(psutil.NoSuchProcess):  # a zombie, too
                    if "_bentoml_impl.worker" in " ".join(process.cmdline()):
                        found.append(process)
            return bool(found)

        until(is_there, "there is a worker")
        return found[0]

    def processes(self) -> list[psutil.Process]:
        """All processes of the service, including the engine."""
        if self._process is None or self._process.poll() is not None:
            return []
        return [self.supervisor, *self.supervisor.children(recursive=True)]

    def kill(self) -> None:
        """SIGKILL all processes."""
        everything = self.processes()
        for process in everything:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._reap(everything)

    def terminate(self) -> None:
        """Send SIGTERM to the supervisor only, as `docker stop` and systemd do."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def wait(self, timeout: float = DEADLINE_S) -> int:
        assert self._process is not None
        return self._process.wait(timeout)

    def end(self) -> None:
        """End the service in any state. Waits neither for a picture nor for the supervisor's interpreter to exit."""
        everything = self.processes()
        if everything:
            supervisor, *others = everything
            self.terminate()
            psutil.wait_procs(others, timeout=1)
            psutil.wait_procs([supervisor], timeout=0.2)
        self.kill()
        self._reap(everything)
        self.http.close()

    def restart(self, **settings: object) -> None:
        """Start again with the same state folder and port, and some settings changed."""
        self._settings |= settings
        self.start()

    def _reap(self, processes: list[psutil.Process]) -> None:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, timeout=10)
        if self._process is not None:
            self._process.wait(10)

    def tail(self, lines: int = 40) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    # ---- its answers --------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        return self.http.get("/api/status").json()

    def is_unused(self) -> bool:
        """Whether no job waits or runs, and the engine is doing nothing."""
        status = self.status()
        queue, state = status["queue"], status["engine"]["state"]
        return queue["queued"] + queue["running"] == 0 and state in {"cold", "ready", "failed"}

    def submit(self, prompt: str = "a red circle", **fields: Any) -> dict[str, Any]:
        """Submit a small job: 64x64 and 2 steps by default."""
        request = {"prompt": prompt, "width": 64, "height": 64, "steps": 2, "seed": 1} | fields
        answer = self.http.post("/api/generate", json=request)
        assert answer.status_code == 202, answer.text
        return answer.json()

    def job(self, job_id: str) -> dict[str, Any]:
        answer = self.http.get(f"/api/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def ended(self, job_id: str, timeout: float = DEADLINE_S) -> dict[str, Any]:
        """Wait until the job has ended. Returns it."""
        until(lambda: self.job(job_id)["status"] in {"complete", "failed", "cancelled"}, "the job ends", timeout)
        return self.job(job_id)

    def until_drawing(self, job_id: str) -> dict[str, Any]:
        """Wait until a job's picture is being sampled. Returns the job. Fails at once if the job has ended before.

        A job that is to be met at work has to last for seconds: `ENDLESS` with the tiny model.
        """

        def drawing() -> bool:
            job = self.job(job_id)
            assert job["status"] in {"queued", "running"}, f"it has ended before it was seen at work: {job}"
            return bool((job["progress"] or {}).get("step"))

        until(drawing, "the picture is being drawn")
        return self.job(job_id)

    def draw(self, prompt: str = "a red circle", **fields: Any) -> dict[str, Any]:
        """Submit a job, wait for its end and check that it is complete."""
        job = self.ended(self.submit(prompt, **fields)["job_id"])
        assert job["status"] == "complete", job
        return job

    def png(self, job: dict[str, Any], index: int = 0) -> bytes:
        return self.http.get(f"/images/{job['images'][index]['id']}.png").content

    def unsigned(self, job: dict[str, Any], index: int = 0) -> bytes:
        """The PNG without its manifest, which differs each time that a picture is drawn."""
        return without_manifest(self.png(job, index))

    def until_state(self, *states: str, timeout: float = DEADLINE_S) -> dict[str, Any]:
        """Wait until the engine is in one of `states`. Returns the status."""
        until(lambda: self.status()["engine"]["state"] in states, f"the engine is {states}", timeout)
        return self.status()


class ImagegenServe(Service):
    """The service as `imagegen serve` starts it."""

    _command = ("imagegen.cli", "serve")


def refused_start(service: Service, *words: str) -> str:
    """Check that the service exits with 1 and logs `words`, without a traceback. Returns its output."""
    service.launch()
    assert service.wait() == 1
    log = service.log.read_text(errors="replace")
    assert all(word in log for word in words), log
    assert "Traceback" not in log
    return log


MakeService = Callable[..., Service]
"""`serve(**settings)`: start a service for one test."""
Require = Callable[[str, bool], None]
"""`require(reason, ok)`: unless ok, skip the test, or fail it where nothing may be missing."""


def new_home(folder: Path, models_dir: Path) -> Path:
    (folder / "models").mkdir(parents=True)
    for model in models_dir.iterdir():
        if model.is_dir():
            (folder / "models" / model.name).symlink_to(model, target_is_directory=True)
    return folder


def until(happened: Callable[[], bool], what: str, timeout: float = DEADLINE_S, every: float = 0.05) -> None:
    """Wait until `happened()` is true. Raises AssertionError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not happened():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:g} s in vain: {what}")
        time.sleep(every)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def gone(pid: int) -> bool:
    """Whether the process has ended. A zombie has."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def spoken(port: int, ciphers: str) -> str | None:
    """The TLS version negotiated by a client with only these TLS 1.2 cipher suites; None if the handshake fails."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers(f"{ciphers}:@SECLEVEL=0")
    with socket.create_connection(("127.0.0.1", port), timeout=60) as plain:
        try:
            with client.wrap_socket(plain) as secure:
                return secure.version()
        except ssl.SSLError:
            return None

"""Drive one engine on one model, directly or through the service. Measures loads, pictures and memory.

Used by gpu.py. Both ways have the same methods, so that both are measured by the same code.
"""

from __future__ import annotations

import io
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import psutil
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/support"))

from bare import Bare
from served import Service

from imagegen.engines.sdcpp.prompt import literal
from imagegen.hardware import gpu
from imagegen.prompts.guardrails import Guardrails, compose

PROMPT = "a red circle on a white page, with the word hello below it"
POLL_S, SAMPLE_S, GIVEN_BACK_S = 0.005, 0.2, 2.0
START_LIMIT_S = 500.0


@dataclass(frozen=True)
class Setup:
    """How the model is run. `flags` and request `options` are those of the engine.

    ways: `direct`, `service` or both. loads: whether loads are measured, not only pictures.
    """

    name: str
    title: str
    flags: tuple[str, ...] = ()
    options: dict[str, str] = field(default_factory=dict)
    ways: tuple[str, ...] = ("direct",)
    loads: bool = False


@dataclass(frozen=True)
class Drawing:
    """The settings of every picture. `steps` are sampler steps."""

    steps: int
    cfg_scale: float
    sampler: str = "euler"


class Way(Protocol):
    """A way to control one engine process."""

    def load(self) -> float:
        """Load the model. Returns the seconds until it can draw."""

    def draw_square(self, size_px: int, seed: int) -> bytes:
        """Draw a picture. Returns a PNG."""

    def unload(self) -> None:
        """End the engine's process."""

    @property
    def pid(self) -> int | None: ...


class Direct(Bare):
    """The engine alone, with the same requests that the service would send."""

    def __init__(self, command: list[str], workdir: Path, drawing: Drawing, options: dict[str, str]) -> None:
        super().__init__(command, workdir, START_LIMIT_S)
        self._drawing, self._options = drawing, options
        self._told = compose(Guardrails(), PROMPT, "", drawing.cfg_scale)

    def draw_square(self, size_px: int, seed: int) -> bytes:
        request = {
            "prompt": literal(self._told.prompt), "negative_prompt": literal(self._told.negative),
            "width": size_px, "height": size_px, "seed": seed,
            "sample_params": {
                "sample_steps": self._drawing.steps, "sample_method": self._drawing.sampler,
                "guidance": {"txt_cfg": self._drawing.cfg_scale},
            },
        }  # fmt: skip
        return self.draw(request | self._options)


class Served:
    """The same engine and model behind HTTP, queue, worker and store."""

    def __init__(self, service: Service, drawing: Drawing) -> None:
        self._service, self._drawing = service, drawing

    @property
    def pid(self) -> int | None:
        return self._service.engine_pid

    def load(self) -> float:
        with self._service.http.stream("GET", "/api/events", timeout=START_LIMIT_S) as events:
            lines = (line.replace(" ", "") for line in events.iter_lines() if line.startswith("data: "))
            next(lines)
            began = self._warm()
            for line in lines:
                if '"state":"ready"' in line:
                    return time.perf_counter() - began
                if '"state":"failed"' in line:
                    break
        raise SystemExit(f"the service did not load the model: {self._service.status()['engine']['error']}")

    def _warm(self) -> float:
        """Request a warm-up. Returns the time of the accepted request. Waits for Retry-After if refused with 429."""
        while True:
            began = time.perf_counter()
            answer = self._service.http.post("/api/warm")
            if answer.status_code != 429:
                answer.raise_for_status()
                return began
            time.sleep(float(answer.headers.get("Retry-After", "1")))

    def draw_square(self, size_px: int, seed: int) -> bytes:
        job = self._service.submit(
            PROMPT, width=size_px, height=size_px, steps=self._drawing.steps, seed=seed,
            cfg_scale=self._drawing.cfg_scale, sampler=self._drawing.sampler,
        )  # fmt: skip
        while job["status"] in {"queued", "running"}:
            job = self._service.http.get(f"/api/jobs/{job['job_id']}", params={"wait": 50}).json()
        if job["status"] != "complete":
            raise SystemExit(f"the job failed: {job['error']}")
        return self._service.png(job)

    def unload(self) -> None:
        self._service.http.post("/api/unload", timeout=60).raise_for_status()


# ---- memory in use ----------------------------------------------------------------------------


def taken_bytes(pid: int | None) -> int:
    """The VRAM in use by all processes; without a GPU, the engine's resident memory. In bytes."""
    card = gpu.read_nvidia()
    if card is not None and card.free_bytes is not None:
        return card.total_bytes - card.free_bytes
    try:
        return int(psutil.Process(pid).memory_info().rss) if pid else 0
    except psutil.NoSuchProcess:
        return 0


def after_unload(before_bytes: int) -> tuple[int, float]:
    """Wait for the level of before (within 64 MiB), at most 2 s. Returns bytes still in use, and seconds waited."""
    began = time.perf_counter()
    while (left := taken_bytes(None)) > before_bytes + 64 * 1024**2 and time.perf_counter() - began < GIVEN_BACK_S:
        time.sleep(0.02)
    return left, time.perf_counter() - began


@contextmanager
def peak(pid: int | None) -> Iterator[Callable[[], int]]:
    """Sample the memory in use during the `with` block. Yields a function that returns the peak in bytes."""
    most, done = [taken_bytes(pid)], threading.Event()

    def watch() -> None:
        while not done.wait(SAMPLE_S):
            most[0] = max(most[0], taken_bytes(pid))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield lambda: most[0]
    finally:
        done.set()
        thread.join()


def pixels_of(png: bytes) -> bytes:
    return Image.open(io.BytesIO(png)).convert("RGB").tobytes()


def drawn(way: Way, size_px: int, seed: int) -> dict[str, Any]:
    """Draw one picture. Returns seconds, peak memory in bytes, and the CRC of its pixels."""
    with peak(way.pid) as most:
        began = time.perf_counter()
        png = way.draw_square(size_px, seed)
        took = time.perf_counter() - began
    return {"s": round(took, 4), "peak_bytes": most(), "pixels_crc32": zlib.crc32(pixels_of(png))}

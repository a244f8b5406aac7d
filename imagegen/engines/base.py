"""The adapter protocol: the contract between the worker and an engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from imagegen.schemas import Phase, Warn

INTERRUPTED = "interrupted"
"""The error code of a picture that was interrupted on request; never the code of a job."""


class EngineError(Exception):
    """A request to the engine failed; `code` is one of the job codes or INTERRUPTED, `detail` a sentence.

    draws_on: the engine itself reported the error, for this picture only, and can draw the next one.
    """

    def __init__(self, code: str, detail: str, *, draws_on: bool = False) -> None:
        super().__init__(detail)
        self.code, self.detail, self.draws_on = code, detail, draws_on


@dataclass(frozen=True)
class LoadProgress:
    """Progress of a load: fraction 0..1 of the tensors; bytes read, total bytes and bytes per second, as reported by
    the engine.

    waits_for: a sentence that names the programs that hold the GPU's memory; the load has not begun.
    """

    fraction: float
    bytes_per_s: float | None = None
    bytes_done: int | None = None
    bytes_total: int | None = None
    waits_for: str | None = None

    @property
    def left_s(self) -> float | None:
        """Seconds until all files are read, at the engine's own rate; None until it reports a rate."""
        if not self.bytes_per_s or self.bytes_done is None or self.bytes_total is None:
            return None
        return max(0, self.bytes_total - self.bytes_done) / self.bytes_per_s


@dataclass(frozen=True)
class DrawProgress:
    """Progress of one picture: `step` of `steps` while sampling, `tile` of `tiles` while decoding in tiles.

    step_s: seconds per step of this picture so far; None before its first step.
    """

    phase: Phase
    step: int | None = None
    steps: int | None = None
    step_s: float | None = None
    tile: int | None = None
    tiles: int | None = None


class PreviewMode(StrEnum):
    """How the engine makes a preview of the latents."""

    PROJECTION = "projection"  # a matrix, one pixel per latent: no measurable cost; not available for every model
    TAE = "tae"  # the model's tiny autoencoder
    VAE = "vae"  # the model's own autoencoder: one full decode per preview


@dataclass(frozen=True)
class PreviewPlan:
    """The previews of one picture: their mode and their interval in steps (1 or more)."""

    mode: PreviewMode
    every: int = 1


@dataclass(frozen=True)
class Preview:
    """The picture after `step` steps: RGB, 3 bytes per pixel, rows from the top; at most 512 px per side."""

    step: int
    width: int
    height: int
    rgb: bytes


@dataclass(frozen=True)
class LoraUse:
    """A LoRA's file and its strength in a picture."""

    path: Path
    multiplier: float = 1.0


@dataclass(frozen=True)
class DrawRequest:
    """One picture in the engine's terms; adapters pass these values on unchanged.

    width, height: pixels, multiples of the model's size_multiple. references: RGB PNG files, already fitted.
    loras: checked files; an engine without LoRAs gets none. strength: the share of noise in the first reference's
    latents at the start; None, 1: all noise. preview: None for no previews; an engine without previews
    ignores it.
    """

    prompt: str
    negative: str
    width: int
    height: int
    steps: int
    cfg_scale: float
    sampler: str
    scheduler: str | None
    seed: int
    references: tuple[bytes, ...] = ()
    mask: bytes | None = None
    options: dict[str, object] = field(default_factory=dict)  # engine-native fields of the catalog entry
    loras: tuple[LoraUse, ...] = ()
    preview: PreviewPlan | None = None
    strength: float | None = None


@dataclass(frozen=True)
class DrawTimes:
    """Duration of a finished picture in seconds, by phase; None where the engine's log has no value."""

    encode_s: float | None
    sample_s: float | None
    decode_s: float | None
    steps: int | None
    total_s: float
    longest_gap_s: float  # the longest time between two lines of the engine
    skipped: int = 0  # steps that a cache skipped, as counted by the engine
    tokens: int | None = None  # tokens generated during encoding, for an autoregressive engine
    warnings: tuple[Warn, ...] = ()  # the engine's warnings about the picture, for its owner


class Adapter(Protocol):
    """Drives one engine process. One caller (the worker) at a time; every method may be cancelled.

    Lifecycle: start → generate* → stop. After `stop`, or once `wait_died` has returned, `start` starts a new process.
    """

    async def start(self, on_progress: Callable[[LoadProgress], None]) -> None:
        """Start the engine and return when it can draw. Cancelling ends the process.

        Raises EngineError with the engine's last log lines: load_failed · model_missing · out_of_vram, or engine_died
        if another process killed it, which is not a fault of the model.
        """

    async def generate(
        self,
        request: DrawRequest,
        on_progress: Callable[[DrawProgress], None],
        on_preview: Callable[[Preview], None] | None = None,
    ) -> bytes:
        """Draw one picture and return it as a PNG file of the requested size.

        on_preview: called with each preview that `request.preview` asks for, in the order of the steps. The engine
        skips previews if they are read too slowly, and makes none of latents that it cannot project.

        Raises EngineError: engine_died · out_of_vram · draw_failed (the engine refused or failed, and still runs) ·
        interrupted. There is no timeout on a silent engine: the caller judges `last_line_at`. Cancelling interrupts
        the picture; an engine that cannot be interrupted continues to draw, and the next `generate` waits for it.
        """

    def interrupt(self) -> bool:
        """Ask the engine to interrupt the running picture before its next step; returns at once.

        True: `generate` then raises EngineError(interrupted), unless the picture is finished first. False: no picture
        is running, or this engine cannot be interrupted.
        """

    async def stop(self) -> None:
        """End the process (SIGKILL: the engine has nothing to save) and wait for its exit. Idempotent."""

    async def wait_died(self) -> None:
        """Return when the engine process has exited, for any reason; at once if there is none."""

    @property
    def pid(self) -> int | None:
        """The engine's process id while it runs, else None."""

    @property
    def last_line_at(self) -> float:
        """Time of the engine's last output or of the last request to it (time.monotonic, seconds)."""

    @property
    def last_draw(self) -> DrawTimes | None:
        """The times of the last finished picture; None before the first."""

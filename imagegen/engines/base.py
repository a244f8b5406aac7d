"""What an adapter is: the contract between the worker and whatever draws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from imagegen.schemas import Phase, Warn

INTERRUPTED = "interrupted"
"""The code of a picture that was broken off because somebody asked for it; no job ever has it."""


class EngineError(Exception):
    """The engine could not do what it was asked; `code` is one of the job codes or INTERRUPTED, `detail` a sentence.

    draws_on: it said so itself, of this picture alone, and can be asked for the next one.
    """

    def __init__(self, code: str, detail: str, *, draws_on: bool = False) -> None:
        super().__init__(detail)
        self.code, self.detail, self.draws_on = code, detail, draws_on


@dataclass(frozen=True)
class LoadProgress:
    """How far a load is: fraction 0..1 of the tensors; bytes read, of how many, and a second, by the engine's words.

    waits_for: nothing is loaded yet, because others hold the GPU's memory: who, in a sentence.
    """

    fraction: float
    bytes_per_s: float | None = None
    bytes_done: int | None = None
    bytes_total: int | None = None
    waits_for: str | None = None

    @property
    def left_s(self) -> float | None:
        """Seconds until all files are read, at the engine's own rate; None before it tells one."""
        if not self.bytes_per_s or self.bytes_done is None or self.bytes_total is None:
            return None
        return max(0, self.bytes_total - self.bytes_done) / self.bytes_per_s


@dataclass(frozen=True)
class DrawProgress:
    """Where one picture is: `step` of `steps` while sampling, `tile` of `tiles` while decoding in tiles.

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

    PROJECTION = "projection"  # a matrix, one pixel a latent: costs no measurable time; not for every model's latents
    TAE = "tae"  # the model's tiny autoencoder
    VAE = "vae"  # the model's own autoencoder: a whole decoding for each preview


@dataclass(frozen=True)
class PreviewPlan:
    """The previews of one picture: how they are made, and after every how many steps (1 or more)."""

    mode: PreviewMode
    every: int = 1


@dataclass(frozen=True)
class Preview:
    """The picture as it looks after `step` steps: RGB, 3 bytes a pixel, rows from the top; at most 512 px a side."""

    step: int
    width: int
    height: int
    rgb: bytes


@dataclass(frozen=True)
class DrawRequest:
    """One picture, in the engine's terms: what is here is what the engine gets.

    width, height in pixels, multiples of what the model takes; references are RGB PNG files, already fitted.
    preview: None for no previews; an engine that cannot make them ignores it.
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
    preview: PreviewPlan | None = None


@dataclass(frozen=True)
class DrawTimes:
    """What a finished picture cost: seconds by phase; None where the engine's log did not say."""

    encode_s: float | None
    sample_s: float | None
    decode_s: float | None
    steps: int | None
    total_s: float
    longest_gap_s: float  # the longest silence between two lines of the engine
    skipped: int = 0  # of the steps, those that a cache left out, as the engine counts them
    tokens: int | None = None  # that the encoding wrote, where the engine writes a picture's tokens
    warnings: tuple[Warn, ...] = ()  # what the engine said of the picture that its owner should know


class Adapter(Protocol):
    """Drives one engine process. One caller (the worker) at a time; every method may be cancelled.

    Life: start → generate* → stop. After `stop`, or once `wait_died` returned, `start` begins anew with a new
    process.
    """

    async def start(self, on_progress: Callable[[LoadProgress], None]) -> None:
        """Start the engine and return when it can draw. Cancelling it ends the process.

        Raises EngineError, with the engine's own last words: load_failed · model_missing · out_of_vram, or
        engine_died if somebody killed it, which says nothing about the model.
        """

    async def generate(
        self,
        request: DrawRequest,
        on_progress: Callable[[DrawProgress], None],
        on_preview: Callable[[Preview], None] | None = None,
    ) -> bytes:
        """Draw one picture; a PNG file of the size asked for.

        on_preview: called with each preview that `request.preview` asks for, in the order of the steps; the engine
        leaves previews out where they are read too slowly, and makes none of latents that it cannot project.

        Raises EngineError(engine_died · out_of_vram · draw_failed: it refused or could not draw, and lives ·
        interrupted). It never gives up on a silent engine: the caller judges `last_line_at`. Cancelled, it lets go
        of the picture and interrupts it; an engine that cannot be interrupted draws on, and the next `generate`
        waits for it.
        """

    def interrupt(self) -> bool:
        """Ask the engine to break the running picture off before its next step; returns at once.

        True: `generate` then raises EngineError(interrupted), if the picture is not finished first. False: nothing
        is drawn, or this engine cannot be interrupted.
        """

    async def stop(self) -> None:
        """End the process (SIGKILL: the engine has nothing to save) and wait until it is gone. Idempotent."""

    async def wait_died(self) -> None:
        """Return when the engine process is gone, whoever ended it; at once if there is none."""

    @property
    def pid(self) -> int | None:
        """The engine's process id while it lives."""

    @property
    def last_line_at(self) -> float:
        """When the engine last gave a sign of life, or was last asked for one (time.monotonic, seconds)."""

    @property
    def last_draw(self) -> DrawTimes | None:
        """What the last finished picture cost; None before the first."""

    def last_words(self) -> str:
        """The engine's last log lines, for an error message; never a prompt, never a path of the host."""

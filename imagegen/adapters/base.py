"""What an adapter is, and the half of it that any engine behind a loopback port shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from imagegen.schemas import Phase


class EngineError(Exception):
    """The engine could not do what it was asked; `code` is one of the job codes, `detail` a sentence."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code, self.detail = code, detail


@dataclass(frozen=True)
class LoadProgress:
    """How far a load is: fraction 0..1 over all files, bytes a second as the engine tells it."""

    fraction: float
    bytes_per_s: float | None = None


@dataclass(frozen=True)
class DrawProgress:
    """Where one picture is; `step` of `steps` while sampling."""

    phase: Phase
    step: int | None = None
    steps: int | None = None


@dataclass(frozen=True)
class DrawRequest:
    """One picture, in the engine's terms: what is here is what the engine gets.

    width, height in pixels, multiples of what the model takes; references are RGB PNG files, already fitted.
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


class Adapter(Protocol):
    """Drives one engine process. One caller (the worker) at a time; every method may be cancelled.

    Life: start → generate* → stop. After `stop`, or after `died` is set, `start` begins anew with a new process.
    """

    async def start(self, on_progress: Callable[[LoadProgress], None]) -> None:
        """Start the engine and return when it can draw. Raises EngineError(load_failed · model_missing ·
        out_of_vram) with the engine's own last words. Cancelling it ends the process."""

    async def generate(self, request: DrawRequest, on_progress: Callable[[DrawProgress], None]) -> bytes:
        """Draw one picture; a PNG file. Raises EngineError(engine_died · engine_hung · out_of_vram · …)."""

    async def stop(self) -> None:
        """End the process (SIGKILL: the engine has nothing to save) and wait until it is gone. Idempotent."""

    async def wait_died(self) -> None:
        """Return when the engine process is gone, whoever ended it; at once if there is none."""

    @property
    def pid(self) -> int | None:
        """The engine's process id while it lives."""

    def last_words(self) -> str:
        """The engine's last log lines, for an error message; never a prompt, never a path of the host."""

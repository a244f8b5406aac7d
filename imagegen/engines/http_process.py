"""HttpSubprocessAdapter: the part of an adapter that all engines with an HTTP server share."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import httpx

from imagegen.engines.base import DrawProgress, DrawRequest, DrawTimes, EngineError, Preview
from imagegen.engines.life import EngineLife, first_of
from imagegen.engines.tracking import DrawTracker, Event
from imagegen.schemas import Phase, Warn

T = TypeVar("T")

DEATH_NOTICE_S = 2.0  # a dying engine's connection breaks before its exit is observed
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


class HttpSubprocessAdapter(EngineLife):
    """Requests pictures from a running engine, one at a time, and tracks their progress.

    A subclass implements EngineLife's abstract methods and the engine's own protocol.
    """

    def __init__(self, binary: Path, workdir: Path, load_stall_s: float) -> None:
        super().__init__(binary, workdir, load_stall_s)
        self._heard_since = 0.0
        self._draw: DrawTracker | None = None
        self._on_draw: Callable[[DrawProgress], None] | None = None
        self._on_preview: Callable[[Preview], None] | None = None
        self._drawing: asyncio.Task[bytes] | None = None
        self._number = 0  # of the last requested picture
        self._last_draw: DrawTimes | None = None

    # For subclasses

    @abstractmethod
    async def _picture(self, request: DrawRequest, number: int, client: httpx.AsyncClient) -> bytes:
        """Draw `request` with the engine and return its PNG. Raises EngineError, httpx.TransportError.

        number: the picture's number, higher than all numbers before.
        """

    @abstractmethod
    def interrupt(self) -> bool:
        """Ask the engine to interrupt the running picture before its next step: see Adapter."""

    def _drawn_with(self) -> tuple[Warn, ...]:
        """The engine's warnings about the picture that it has just finished."""
        return ()

    def _died_of(self, exit_status: int | None) -> str | None:
        """If the same picture would end the engine again: the reason as a sentence. Else None."""
        del exit_status
        return None

    # Drawing

    async def generate(
        self,
        request: DrawRequest,
        on_progress: Callable[[DrawProgress], None],
        on_preview: Callable[[Preview], None] | None = None,
    ) -> bytes:
        """Draw one picture and return a PNG of exactly the requested size: see Adapter."""
        self._heard_since = monotonic()
        self._number += 1
        number = self._number
        if self._drawing is not None and not self._drawing.done():
            await asyncio.wait([self._drawing])
        if self.pid is None:
            raise EngineError("engine_died", "The engine is not running.")
        self._heard_since = monotonic()
        self._words.forgive()
        self._draw, self._on_draw = DrawTracker(self._heard_since), on_progress
        self._on_preview = on_preview
        self._drawing = asyncio.create_task(self._unless_ended(self._draw_once(request, number)), name="engine-draw")
        self._drawing.add_done_callback(_retrieve)
        self._tell(DrawProgress(Phase.ENCODING))
        try:
            return await asyncio.shield(self._drawing)
        except asyncio.CancelledError:
            self.interrupt()
            raise
        finally:
            self._on_draw = self._on_preview = None

    async def _draw_once(self, request: DrawRequest, number: int) -> bytes:
        assert self._client is not None and self._draw is not None
        draw = self._draw
        png = _of_size(await self._picture(request, number, self._client), request.width, request.height)
        self._last_draw = replace(draw.times(monotonic()), warnings=self._drawn_with())
        return png

    def _drawn(self, event: Event) -> None:
        """Handle an event of the running picture."""
        if self._draw is not None and (progress := self._draw.feed(event, monotonic())):
            self._tell(progress)

    def _tell(self, progress: DrawProgress) -> None:
        if self._on_draw is not None:
            self._on_draw(progress)

    def _draw_error(self, message: str) -> EngineError:
        """The error for a picture that a running engine failed to draw."""
        if self._blame(f"{self._words.complaints}\n{message}") == "out_of_vram":
            return self._too_large()
        return EngineError("draw_failed", f"The engine could not draw it: {message}.{self._words.as_suffix()}")

    def _too_large(self) -> EngineError:
        what = "The picture needs more memory than is free: ask for a smaller one."
        return EngineError("out_of_vram", f"{what}{self._words.as_suffix()}")

    @property
    def last_draw(self) -> DrawTimes | None:
        """The times of the last finished picture: see Adapter."""
        return self._last_draw

    @property
    def last_line_at(self) -> float:
        """Time of the engine's last output or of the last draw request (time.monotonic)."""
        return max(self._heard_since, 0.0 if self._child is None else self._child.last_line_at)

    async def _unless_ended(self, work: Coroutine[Any, Any, T]) -> T:
        """Await `work`.

        Raises EngineError: engine_died or out_of_vram if the engine ends first, draw_failed if it still runs and breaks
        the connection.
        """
        child = self._child
        assert child is not None
        task = asyncio.ensure_future(work)
        try:
            await first_of(child.ended, task)
            if task.done() and isinstance(task.exception(), httpx.TransportError):
                await first_of(child.ended, timeout_s=DEATH_NOTICE_S)
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait([task])
        if child.ended.is_set() and (task.cancelled() or task.exception() is not None):
            code = self._blame(self._words.complaints) or "engine_died"
            if code == "engine_died" and (reason := self._died_of(child.returncode)) is not None:
                raise EngineError("draw_failed", f"{reason} It {child.describe_end()}.{self._words.as_suffix()}")
            raise EngineError(code, f"The engine {child.describe_end()}.{self._words.as_suffix()}")
        try:
            return task.result()
        except httpx.TransportError as broken:
            what = type(broken).__name__
            raise EngineError("draw_failed", f"The engine still runs but broke its connection ({what}).") from broken


def _retrieve(task: asyncio.Task[bytes]) -> None:
    """Retrieve the exception of an abandoned picture, so that asyncio does not log it as never retrieved."""
    if not task.cancelled():
        task.exception()


def _of_size(png: bytes, width: int, height: int) -> bytes:
    """Return `png` if it is a PNG of width × height pixels. Raises EngineError(draw_failed)."""
    if len(png) < 24 or not png.startswith(PNG_SIGNATURE):
        raise EngineError("draw_failed", "The engine's picture is not a PNG.")
    drawn = int.from_bytes(png[16:20]), int.from_bytes(png[20:24])  # IHDR: width, height
    if drawn != (width, height):
        raise EngineError(
            "draw_failed",
            f"The engine drew {drawn[0]}×{drawn[1]} pixels instead of {width}×{height}: "
            "the model's entry names the wrong size_multiple.",
        )
    return png

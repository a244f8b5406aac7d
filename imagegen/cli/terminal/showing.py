"""Show the pictures of a command: previews above its progress bar, and what was drawn."""

from __future__ import annotations

import io
import shutil
from typing import TextIO

from PIL import Image
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import ControlType, Segment

from imagegen.cli.terminal.pictures import Painter
from imagegen_client.pictures import Preview

UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
"""What Pillow raises for a file that is no picture."""
END = "\x1b\\"
"""Ends a sequence that an interrupt has cut short."""


class Showing:
    """Writes pictures to the terminal `stream`."""

    def __init__(self, painter: Painter, stream: TextIO) -> None:
        self._painter, self._stream = painter, stream
        self._rows = 0
        self._seen: Preview | None = None

    def preview(self, console: Console, preview: Preview | None, natural_px: tuple[int, int] | None) -> None:
        """Replace the preview above the bar of `console`, if it is a new one. natural_px: the size of the picture."""
        if preview is None or preview is self._seen:
            return
        self._seen = preview
        columns, lines = shutil.get_terminal_size()
        try:
            drawing = self._painter.draw(preview.pil, (columns - 1, max(1, lines // 2 - 1)), natural_px)
        except UNREADABLE:
            return
        if drawing.rows > self._rows:
            console.print("\n" * (drawing.rows - self._rows - 1))
            self._rows = drawing.rows
        console.print(_Raw(drawing.above(self._rows)), end="")

    def clear(self, console: Console) -> None:
        """Remove the preview and its rows."""
        if self._rows:
            console.print(_Raw(f"{END}{self._painter.forget()}\x1b[{self._rows}A\x1b[J"), end="")
        self._rows, self._seen = 0, None

    def picture(self, file: bytes) -> None:
        """Show a picture file below the cursor. A file that is no picture shows nothing."""
        columns, lines = shutil.get_terminal_size()
        self._painter.next_id()
        try:
            with Image.open(io.BytesIO(file)) as image:
                drawing = self._painter.draw(image, (columns - 1, max(1, lines - 3)))
        except UNREADABLE:
            return
        try:
            self._stream.write(drawing.below)
            self._stream.flush()
        except KeyboardInterrupt:
            self._stream.write(END)
            raise


class _Raw:
    """Text that rich passes on as it is: it moves the cursor, and returns it."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __rich_console__(self, _console: Console, _options: ConsoleOptions) -> RenderResult:
        yield Segment(self._text, control=[(ControlType.CURSOR_FORWARD, 0)])

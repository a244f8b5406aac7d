"""A terminal as a full screen: its second page, single keys, rows that are written only when they change.

The terminal is as before after the `with`, also after an exception, Ctrl-C, SIGTERM or SIGHUP.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import termios
from collections.abc import Sequence
from types import FrameType
from typing import Any, TextIO

from imagegen.cli.terminal.pictures import Drawing, Painter

ENTER, LEAVE = "\x1b[?1049h\x1b[?25l\x1b[2J", "\x1b\\\x1b[0m\x1b[?25h\x1b[?1049l"
ENDS = (signal.SIGTERM, signal.SIGHUP)
OFF = b"\x00"
"""Turns a control character of the terminal off."""


class Screen:
    """The full screen of the terminal that `keyboard` (a file descriptor) reads and `stream` writes."""

    def __init__(self, keyboard: int, stream: TextIO, painter: Painter | None) -> None:
        self._keyboard, self._stream, self._painter = keyboard, stream, painter
        self._size: tuple[int, int] | None = None
        self._rows: list[str] = []
        self._picture: tuple[int, Drawing] | None = None

    def __enter__(self) -> Screen:
        self._before = termios.tcgetattr(self._keyboard)
        self._handlers = {one: signal.signal(one, _end) for one in ENDS}
        modes = termios.tcgetattr(self._keyboard)
        modes[3] &= ~(termios.ICANON | termios.ECHO)
        modes[6][termios.VSUSP] = OFF  # Ctrl-Z would leave the shell on this page
        termios.tcsetattr(self._keyboard, termios.TCSANOW, modes)
        self._write(ENTER)
        return self

    def __exit__(self, *_: Any) -> None:
        with contextlib.suppress(OSError, termios.error):  # the terminal may have gone
            self._write((self._painter.forget() if self._painter else "") + LEAVE)
            termios.tcsetattr(self._keyboard, termios.TCSADRAIN, self._before)
        for one, handler in self._handlers.items():
            signal.signal(one, handler)

    def keys(self, wait_s: float) -> bytes:
        """The keys that were pressed, after `wait_s` at most. Raises EOFError if the terminal has gone."""
        if not select.select([self._keyboard], [], [], wait_s)[0]:
            return b""
        try:
            pressed = os.read(self._keyboard, 1024)
        except OSError:
            pressed = b""
        if not pressed:
            raise EOFError
        return pressed

    def size(self) -> tuple[int, int]:
        """Columns and rows."""
        columns, rows = os.get_terminal_size(self._stream.fileno())
        return (columns, rows) if columns and rows else (80, 24)

    def show(self, rows: Sequence[str], picture: tuple[int, Drawing] | None) -> None:
        """Show the rows from the top on, and the picture (its first row, counted from 0) on rows that are empty."""
        size = self.size()
        rows = [*rows, *[""] * size[1]][: size[1]]
        written = ""
        if size != self._size or _place(picture) != _place(self._picture):
            written += "\x1b[0m\x1b[2J" + (self._painter.forget() if self._painter else "")
            self._rows, self._picture, self._size = [""] * size[1], None, size
        for number, (before, row) in enumerate(zip(self._rows, rows, strict=True), 1):
            if row != before:
                written += f"\x1b[{number};1H{row}\x1b[0m\x1b[K"
        if picture and (self._picture is None or picture[1] is not self._picture[1]):
            written += f"\x1b[{picture[0] + 1};1H{picture[1].text}"
        self._rows, self._picture = rows, picture
        if written:
            self._write(written)

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def _place(picture: tuple[int, Drawing] | None) -> tuple[int, int, int] | None:
    return picture and (picture[0], picture[1].columns, picture[1].rows)


def _end(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)

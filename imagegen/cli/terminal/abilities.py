"""Ask a terminal which pictures it can show, by escape sequences that it answers.

The questions end with the one that every terminal answers (its attributes, DA1). Terminals answer in order: after that
answer nothing more arrives, so no answer is left for the shell, and a terminal that answers promptly costs no wait.
Questions are asked only of the terminal that this process is in the foreground of, and never while keys are pending.
textual-image asks at import, through standard input, in three rounds of 0.1 s each; a later answer is left there.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import struct
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

try:
    import fcntl
    import termios
except ImportError:  # Windows: its terminals are not asked
    POSIX = False
else:
    POSIX = True

ANSWER_S = 1.0
"""How long to wait for the first terminal that answers nothing. A network's round trip has to fit."""
MOST_BYTES = 4096
USUAL_CELL = (10, 20)
"""Pixels of a character, where the terminal does not say: a VT340's."""

KITTY = b"\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\"
ITERM2 = b"\x1b]1337;ReportCellSize\x07"
CELL = b"\x1b[16t"
ATTRIBUTES = b"\x1b[c"
ERASE = b"\r\x1b[K"
"""Removes what a terminal prints of a question that it does not know."""

_ATTRIBUTES = re.compile(rb"\x1b\[\?([0-9;]*)c")
_KITTY = re.compile(rb"\x1b_Gi=31[^;\x1b]*;OK\x1b\\")
_ITERM2 = re.compile(rb"\x1b\]1337;ReportCellSize=([0-9.]+);([0-9.]+)(?:;([0-9.]+))?(?:\x07|\x1b\\)")
_CELL = re.compile(rb"\x1b\[6;(\d+);(\d+)t")
_SIXEL = b"4"

SILENT = re.compile(r"(?:|dumb|unknown|linux|cons25|vt52|vt10\d|eterm.*|emacs)$")
"""TERM of terminals that show no pictures, or print questions that they do not know."""
INSIDE = re.compile(r"(?:screen|tmux)")
"""TERM of multiplexers. They take the questions of kitty and iTerm2 for a window's title."""


class Protocol(Enum):
    """How a picture is sent. BLOCKS is text with two pixels in a character."""

    KITTY = "kitty"
    ITERM2 = "iterm2"
    SIXEL = "sixel"
    BLOCKS = "blocks"


@dataclass(frozen=True)
class Abilities:
    """What a terminal says. `protocol` is None if it shows no pictures. `cell_px`: width and height of a character."""

    protocol: Protocol | None
    cell_px: tuple[int, int]


def abilities(output: int, environment: Mapping[str, str] = os.environ) -> Abilities:
    """What the terminal of the file descriptor `output` can show. Never raises, and waits ANSWER_S at most."""
    nothing = Abilities(None, window_cell(output) or USUAL_CELL)
    questions = questions_for(environment)
    if not questions:
        return nothing
    with _foreground_terminal(output) as terminal:
        if terminal is None:
            return nothing
        return understood(_asked(terminal, questions), window_cell(output))


def questions_for(environment: Mapping[str, str]) -> bytes:
    """What to ask a terminal of this environment; empty: nothing."""
    name = environment.get("TERM", "")
    if SILENT.match(name) or environment.get("TERM_PROGRAM") == "Apple_Terminal":
        return b""
    if "TMUX" in environment or "STY" in environment or INSIDE.match(name):
        return CELL + ATTRIBUTES
    return KITTY + ITERM2 + CELL + ATTRIBUTES + ERASE


def understood(answers: bytes, window: tuple[int, int] | None) -> Abilities:
    """The abilities in a terminal's answers. `window`: the size of a character by the window's size, if known."""
    attributes = _ATTRIBUTES.search(answers)
    iterm2, cell = _ITERM2.search(answers), _CELL.search(answers)
    protocol = None
    if _KITTY.search(answers):
        protocol = Protocol.KITTY
    elif iterm2:
        protocol = Protocol.ITERM2
    elif attributes and _SIXEL in attributes[1].split(b";"):
        protocol = Protocol.SIXEL
    said = (int(cell[2]), int(cell[1])) if cell else None
    return Abilities(protocol, window or (said if said and all(said) else None) or USUAL_CELL)


def window_cell(output: int) -> tuple[int, int] | None:
    """Width and height of a character in pixels, by the terminal's window size; None if that has no pixels."""
    if not POSIX:
        return None
    try:
        rows, columns, width, height = struct.unpack("HHHH", fcntl.ioctl(output, termios.TIOCGWINSZ, bytes(8)))
    except OSError:
        return None
    cell = (width // columns, height // rows) if rows and columns else (0, 0)
    return cell if all(cell) else None


@contextlib.contextmanager
def _foreground_terminal(output: int) -> Iterator[int | None]:
    """The terminal of `output`, to read and write, or None: it is another's, or this process is in the background."""
    terminal = None
    if POSIX:
        with contextlib.suppress(OSError):
            if os.tcgetpgrp(output) == os.getpgrp():
                terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        yield terminal
    finally:
        if terminal is not None:
            os.close(terminal)


def _asked(terminal: int, questions: bytes) -> bytes:
    """The terminal's answers, without an echo of them. Its modes are as before, also after Ctrl-C."""
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        before = termios.tcgetattr(terminal)
        quiet = termios.tcgetattr(terminal)
        quiet[3] &= ~(termios.ICANON | termios.ECHO)
        quiet[6][termios.VMIN], quiet[6][termios.VTIME] = 0, 0
        try:
            termios.tcsetattr(terminal, termios.TCSANOW, quiet)
            if _ready(terminal, 0):
                return b""  # keys that were typed ahead: they belong to who reads next
            os.write(terminal, questions)
            return _answers(terminal, ANSWER_S)
        finally:
            termios.tcsetattr(terminal, termios.TCSANOW, before)
    except (OSError, termios.error):
        return b""


def _answers(terminal: int, wait_s: float) -> bytes:
    """What arrives until the attributes have."""
    deadline = time.monotonic() + wait_s
    heard = b""
    while not _ATTRIBUTES.search(heard) and len(heard) < MOST_BYTES:
        if not _ready(terminal, max(0.0, deadline - time.monotonic())):
            break
        piece = os.read(terminal, 1024)
        if not piece:
            break  # the terminal has gone
        heard += piece
    return heard


def _ready(terminal: int, wait_s: float) -> bool:
    return bool(select.select([terminal], [], [], wait_s)[0])

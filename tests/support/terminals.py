"""A terminal as a program sees one: a pseudo-terminal whose other end answers as kitty, iTerm2, or another would."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import shlex
import signal
import struct
import sys
import termios
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from served import ROOT

KITTY, ITERM2, CELL, ATTRIBUTES = b"\x1b_Gi=31", b"\x1b]1337;ReportCellSize", b"\x1b[16t", b"\x1b[c"
ANSWERS: dict[str, dict[bytes, bytes]] = {
    "kitty": {KITTY: b"\x1b_Gi=31;OK\x1b\\", CELL: b"\x1b[6;18;9t", ATTRIBUTES: b"\x1b[?62;52;c"},
    "iterm2": {ITERM2: b"\x1b]1337;ReportCellSize=18.0;9.0;1.0\x1b\\", ATTRIBUTES: b"\x1b[?64;1;2;4;6c"},
    "sixel": {CELL: b"\x1b[6;18;9t", ATTRIBUTES: b"\x1b[?64;1;2;4;6c"},
    "plain": {ATTRIBUTES: b"\x1b[?1;2c"},
    "silent": {},
}
"""What each kind of terminal says to which question."""
PATIENT = (
    "from imagegen.cli import candidates, main; from imagegen.cli.terminal import abilities; "
    "abilities.ANSWER_S = candidates.ANSWER_S = 120; main()"
)
"""Python code of the command line, which waits longer for an answer than a machine may be busy."""
IMAGEGEN = f"{shlex.quote(sys.executable)} -c {shlex.quote(PATIENT)}"
"""The command `imagegen` for a shell, with that patience."""
STARTS = {"kitty": b"\x1b_Ga=T", "iterm2": b"\x1b]1337;File=", "sixel": b"\x1bP", "blocks": "▀".encode()}
"""How a picture starts, by protocol."""


class Terminal:
    """Runs a command on a new terminal, as its session's leader. `kind`: of ANSWERS; others can be set in `answers`."""

    def __init__(
        self,
        command: list[str],
        kind: str = "plain",
        *,
        size: tuple[int, int, int, int] = (40, 100, 0, 0),
        cwd: Path | None = None,
        **environment: str,
    ) -> None:
        kept = {name: value for name, value in os.environ.items() if name not in {"TMUX", "STY", "NO_COLOR", "CI"}}
        own = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8"}
        self.answers = dict(ANSWERS[kind])
        self.written = bytearray()
        self._asked = 0
        self.status: int | None = None
        self.pid, self._other = pty.fork()
        if self.pid == 0:
            _become(command, cwd, kept | own | environment, size)
        self.resize(*size)

    def resize(self, rows: int, columns: int, width: int = 0, height: int = 0) -> None:
        with contextlib.suppress(OSError):
            fcntl.ioctl(self._other, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, width, height))

    def type(self, keys: bytes) -> None:
        os.write(self._other, keys)

    def read(self, wait_s: float = 0.05) -> bool:
        """Take what was written, and answer its questions. False once the program and its children are gone."""
        if not select.select([self._other], [], [], wait_s)[0]:
            return True
        try:
            piece = os.read(self._other, 65536)
        except OSError:
            return False
        self.written += piece
        self._answer()
        return bool(piece)

    def until(self, happened: Callable[[], bool], what: str, timeout: float = 300) -> None:
        deadline = time.monotonic() + timeout
        while not happened():
            late = time.monotonic() > deadline
            if late or not (self.read() or happened()):
                self._kill()
                why = "waited in vain" if late else "the program has ended before"
                raise AssertionError(f"{why}: {what}\n{bytes(self.written[-3000:])!r}")

    def end(self, timeout: float = 300) -> int:
        """Read until the program has ended. Returns its exit code."""
        deadline = time.monotonic() + timeout
        while self.status is None:
            if time.monotonic() > deadline:
                self._kill()
                raise AssertionError(f"the program does not end\n{bytes(self.written[-3000:])!r}")
            self.read()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        while select.select([self._other], [], [], 0)[0] and self.read():
            pass
        os.close(self._other)
        return self.status

    def _kill(self) -> None:
        """End the program and what it has started in its group."""
        with contextlib.suppress(OSError):
            os.killpg(self.pid, signal.SIGKILL)

    def _answer(self) -> None:
        """Answer the questions in the order in which they came, each once."""
        while True:
            found = [(place, ask) for ask in self.answers if (place := self.written.find(ask, self._asked)) >= 0]
            if not found:
                return
            place, ask = min(found)
            self._asked = place + len(ask)
            with contextlib.suppress(OSError):
                os.write(self._other, self.answers[ask])


def _become(command: list[str], cwd: Path | None, environment: Mapping[str, str], size: tuple[int, ...]) -> None:
    """In the child: become the command. Never returns."""
    try:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", *size))
        if cwd:
            os.chdir(cwd)
        os.execvpe(command[0], command, environment)
    finally:
        os._exit(127)

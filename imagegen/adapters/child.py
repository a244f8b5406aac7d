"""One engine process: it cannot outlive the service, its output is always read, its end is noticed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic

from imagegen.adapters import guarded_exec
from imagegen.adapters.sdcpp_log import LineSplitter

logger = logging.getLogger("imagegen.engine")

KEPT_LINES = 200
READ_BYTES = 65_536
LAST_OUTPUT_S = 2.0  # how long to wait for the end of a dead engine's output

_PASSED_ON = {"PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH"}  # HOME: CUDA keeps its kernel cache there
_PASSED_ON_PREFIXES = ("CUDA_", "NVIDIA_", "GGML_", "SD_VK_", "VK_", "HIP_", "ROCR_", "OMP_")


def engine_environment(ours: Mapping[str, str]) -> dict[str, str]:
    """What of our environment the engine gets: what finds libraries and GPUs, and no IMAGEGEN_* (tokens)."""
    passed = {k: v for k, v in ours.items() if k in _PASSED_ON or k.startswith(_PASSED_ON_PREFIXES)}
    # On an abort ggml would fork a debugger to print a backtrace (ggml_print_backtrace in ggml.c).
    return passed | {"LC_ALL": "C", "GGML_NO_BACKTRACE": "1"}


class Child:
    """A running engine process. Made by `spawn`; `ended` is set once it is reaped and its output is read."""

    def __init__(self, process: asyncio.subprocess.Process, on_line: Callable[[str, bool], None]) -> None:
        self._process = process
        self._on_line = on_line
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self.last_line_at = monotonic()
        self.ended = asyncio.Event()
        self._watch = asyncio.create_task(self._watch_until_ended(), name=f"engine-{process.pid}")

    @classmethod
    async def spawn(cls, argv: list[str], cwd: Path, on_line: Callable[[str, bool], None]) -> Child:
        """Start argv[0] in `cwd`; `on_line(line, from_stderr)` is called for every line it prints.

        The engine dies with the thread that calls this (PR_SET_PDEATHSIG): the event loop's, which has to be
        one that lives as long as the service. Raises OSError if even the interpreter cannot be started.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", guarded_exec.__file__, str(os.getpid()), *argv,
            cwd=cwd,
            env=engine_environment(os.environ),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # a terminal's ^C, ^\ and hang-up are for the service
        )  # fmt: skip
        return cls(process, on_line)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, or minus the signal that ended it; None while it lives."""
        return self._process.returncode

    @property
    def lines(self) -> list[str]:
        """The last lines it printed, oldest first."""
        return list(self._lines)

    def kill(self) -> None:
        """Send SIGKILL, which a stopped process obeys too."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def describe_end(self) -> str:
        """How it ended, as the end of a sentence that begins with "the engine"."""
        code = self.returncode
        if code is None:
            return "is still running"
        if code >= 0:
            return f"stopped by itself with exit status {code}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        hints = {
            "SIGKILL": " (if nobody ended it by hand, the machine ran out of memory)",
            "SIGILL": " (it was built for another kind of CPU: rebuild it on this machine)",
        }
        return f"was ended by {name}{hints.get(name, '')}"

    async def _watch_until_ended(self) -> None:
        assert self._process.stdout is not None and self._process.stderr is not None
        reading = asyncio.gather(
            self._drain(self._process.stdout, from_stderr=False),
            self._drain(self._process.stderr, from_stderr=True),
        )
        await self._process.wait()
        with contextlib.suppress(TimeoutError):  # whoever inherited its pipes may keep them open
            await asyncio.wait_for(reading, LAST_OUTPUT_S)
        self.ended.set()

    async def _drain(self, pipe: asyncio.StreamReader, from_stderr: bool) -> None:
        """Read to the end: an engine whose pipe is full stops drawing."""
        splitter = LineSplitter()
        while data := await pipe.read(READ_BYTES):
            self.last_line_at = monotonic()
            for line in splitter.feed(data):
                self._note(line, from_stderr)
        for line in splitter.flush():
            self._note(line, from_stderr)

    def _note(self, line: str, from_stderr: bool) -> None:
        logger.debug("%s", line)
        self._lines.append(line)
        try:
            self._on_line(line, from_stderr)
        except Exception:
            logger.exception("A listener failed on a line of the engine; the engine goes on.")

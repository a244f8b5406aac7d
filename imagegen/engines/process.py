"""One engine process: it cannot outlive the service, its output is always read, its exit is detected."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic
from typing import IO

from imagegen.engines import guarded_exec
from imagegen.engines.sdcpp.log import LineSplitter

logger = logging.getLogger("imagegen.engine")

READ_BYTES = 65_536
LAST_OUTPUT_S = 2.0  # how long to wait for the rest of an exited engine's output

_PASSED_ON = {"PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "DRI_PRIME"}  # HOME: the drivers keep compiled kernels there
_PASSED_ON_PREFIXES = ("CUDA_", "NVIDIA_", "GGML_", "SD_VK_", "VK_", "MESA_", "HIP_", "ROCR_", "OMP_")


def engine_environment(ours: Mapping[str, str]) -> dict[str, str]:
    """The engine's environment: the variables that locate libraries and GPUs, without IMAGEGEN_* (tokens)."""
    passed = {k: v for k, v in ours.items() if k in _PASSED_ON or k.startswith(_PASSED_ON_PREFIXES)}
    # CUDA then numbers the cards as the driver and nvidia-smi do, so that hardware/gpu.py reads the engine's card.
    passed.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    # On an abort ggml would fork a debugger to print a backtrace (ggml_print_backtrace in ggml.c).
    return passed | {"LC_ALL": "C", "GGML_NO_BACKTRACE": "1"}


class EngineProcess:
    """A running engine process; `ended` is set once it is reaped and its output is read.

    Uses subprocess and a waiting thread instead of asyncio's subprocess, which does not report an exit as long as a
    grandchild keeps the pipes open (cpython#119710).
    """

    def __init__(
        self,
        argv: list[str],
        cwd: Path,
        on_line: Callable[[str, bool], None],
        environment: Mapping[str, str] | None = None,
        descriptors: tuple[int, ...] = (),
    ) -> None:
        """Start argv[0] in `cwd`; `on_line(line, from_stderr)` is called for every line that it prints.

        environment: variables besides those of engine_environment. descriptors: open files that it inherits.

        The engine is killed when the calling thread exits (PR_SET_PDEATHSIG). That is the event loop's thread, which
        has to live as long as the service. Raises OSError if the Python interpreter cannot be started.
        """
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", guarded_exec.__file__, str(os.getpid()), *argv],
            cwd=cwd,
            env=engine_environment(os.environ) | dict(environment or {}),
            pass_fds=descriptors,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # a terminal's ^C, ^\ and hang-up reach only the service
        )
        self._on_line = on_line
        self.last_line_at = monotonic()
        self.ended = asyncio.Event()
        self._exited = asyncio.Event()
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._reap, args=(loop,), name=f"engine-{self.pid}", daemon=True).start()
        self._watch = asyncio.create_task(self._watch_until_ended(), name=f"engine-{self.pid}")

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, or minus the signal that ended it; None while it runs."""
        return self._process.returncode

    def kill(self) -> None:
        """Send SIGKILL, which also ends a stopped process, to the process group."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    def describe_end(self) -> str:
        """How the process ended, as the end of a sentence that begins with "the engine"."""
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
            "SIGKILL": " (sent by hand, or by the kernel because memory ran out)",
            "SIGILL": " (it was built for another kind of CPU: rebuild it on this machine)",
        }
        return f"was ended by {name}{hints.get(name, '')}"

    def _reap(self, loop: asyncio.AbstractEventLoop) -> None:
        self._process.wait()
        with contextlib.suppress(RuntimeError):  # the loop has closed
            loop.call_soon_threadsafe(self._exited.set)

    async def _watch_until_ended(self) -> None:
        assert self._process.stdout is not None and self._process.stderr is not None
        reading = asyncio.gather(
            self._drain(self._process.stdout, from_stderr=False),
            self._drain(self._process.stderr, from_stderr=True),
        )
        await self._exited.wait()
        with contextlib.suppress(TimeoutError):  # a descendant may keep the pipes open
            await asyncio.wait_for(reading, LAST_OUTPUT_S)
        self.ended.set()

    async def _drain(self, pipe: IO[bytes], from_stderr: bool) -> None:
        """Read to the end of the pipe: an engine blocks when its pipe is full."""
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        try:
            await self._read(reader, from_stderr)
        finally:
            transport.close()

    async def _read(self, reader: asyncio.StreamReader, from_stderr: bool) -> None:
        splitter = LineSplitter()
        while data := await reader.read(READ_BYTES):
            self.last_line_at = monotonic()
            for line in splitter.feed(data):
                self._note(line, from_stderr)
        for line in splitter.flush():
            self._note(line, from_stderr)

    def _note(self, line: str, from_stderr: bool) -> None:
        logger.debug("%s", line)
        try:
            self._on_line(line, from_stderr)
        except Exception:
            logger.exception("A listener failed on a line of the engine; the engine still runs.")

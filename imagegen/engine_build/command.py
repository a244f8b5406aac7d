"""Runs a child process of a build: logs its output, ends it with the build, and keeps its last lines for errors."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from imagegen.engine_build.plan import VULKAN_HEADERS, EngineBuildError

TAIL_LINES = 40
QUOTED_LINES = 12
TERM_GRACE_S = 10.0

_NINJA = re.compile(r"^\[(\d+)/(\d+)\] (.*)$")
_OUT_OF_MEMORY = ("Killed signal terminated program", "fatal error: Killed", "virtual memory exhausted")


class NinjaStep(NamedTuple):
    """A progress line of Ninja: `done` of `total` steps, and a description of the step."""

    done: int
    total: int
    what: str


def parse_ninja(line: str) -> NinjaStep | None:
    """Parse Ninja's `[12/193] Building CXX object …` (NINJA_STATUS="[%f/%t] "); None for any other line."""
    match = _NINJA.match(line)
    if match is None:
        return None
    done, total = int(match[1]), int(match[2])
    return NinjaStep(done, total, match[3]) if 0 <= done <= total and total > 0 else None


class Output:
    """The last lines of a child's output, and whether any line reported a full disk or a lack of memory."""

    def __init__(self) -> None:
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self.disk_full = False
        self.out_of_memory = False

    def add(self, line: str) -> None:
        self.tail.append(line)
        self.disk_full |= "No space left on device" in line or "Disk quota exceeded" in line
        self.out_of_memory |= any(sign in line for sign in _OUT_OF_MEMORY)

    def quote(self) -> str:
        """The last lines that are neither empty nor progress, for the end of an error message."""
        telling = [line for line in self.tail if line.strip() and parse_ninja(line) is None]
        return "\n".join(f"  {line}" for line in telling[-QUOTED_LINES:])


def environment(scratch: Path) -> dict[str, str]:
    """The environment of a build's children: English messages, because this module parses them, and temporary files
    in the build's folder, so that they are on the disk that was checked and are deleted with the folder."""
    # Behind the user's own folders, which may have newer headers. Compilers search it before the system's.
    includes = [os.environ.get("CPLUS_INCLUDE_PATH", ""), str(VULKAN_HEADERS)]
    return {
        **os.environ,
        "LC_ALL": "C",
        "NINJA_STATUS": "[%f/%t] ",
        "TMPDIR": str(scratch),
        "CPLUS_INCLUDE_PATH": os.pathsep.join(filter(None, includes)),
    }


def run(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str],
    log: BinaryIO,
    on_line: Callable[[str], None] | None = None,
) -> tuple[int, Output]:
    """Run a child to its end; return its exit status and its output.

    The child leads its own process group, so Ctrl-C on a terminal reaches only this process. Any exception here ends
    the whole group first. Raises EngineBuildError if the child cannot be started.
    """
    output = Output()
    log.write(f"$ {' '.join(str(arg) for arg in argv)}\n".encode())
    log.flush()
    try:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=env,
            process_group=0,
        )
    except OSError as error:
        raise EngineBuildError(f"{argv[0]} cannot be started: {error.strerror}.") from error
    with child:
        try:
            assert child.stdout is not None
            for raw in child.stdout:
                log.write(raw)
                line = raw.decode(errors="replace").rstrip()
                output.add(line)
                if on_line is not None:
                    on_line(line)
            log.flush()
            return child.wait(), output
        except BaseException:
            _end_group(child)
            raise


def _end_group(child: subprocess.Popen[bytes]) -> None:
    """End the group, by SIGTERM first: Ninja puts each compiler into its own group and forwards the signal. SIGKILL
    would leave the compilers running."""
    try:
        os.killpg(child.pid, signal.SIGTERM)
        child.wait(TERM_GRACE_S)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    child.wait()

"""What an sd-server says of itself: its usage text, asked for once per binary and kept until the file changes."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from pathlib import Path

from imagegen.engine_build.plan import EngineBuildError

PROBE_TIMEOUT_S = 20.0


class EngineSilent(EngineBuildError):
    """The binary does not run, or prints no usage text; the message says how it ended."""


_kept: dict[Path, tuple[tuple[int, int], str | EngineSilent]] = {}
_lock = threading.Lock()


def usage(binary: Path) -> str:
    """What `sd-server --help` prints, both streams. Blocks for some 10 ms the first time.

    Raises EngineSilent. The exit status means nothing: the pinned version calls --help an invalid parameter,
    prints its usage all the same, and ends with 0.
    """
    try:
        stat = binary.stat()
    except OSError as gone:
        raise EngineSilent(f"The engine {binary} cannot be looked at ({gone.strerror}).") from None
    mark = (stat.st_mtime_ns, stat.st_size)
    with _lock:
        kept = _kept.get(binary)
        if kept is None or kept[0] != mark:
            try:
                kept = mark, _ask(binary)
            except EngineSilent as silent:  # kept too: one that hangs is not waited for again and again
                kept = mark, silent
            _kept[binary] = kept
    if isinstance(kept[1], EngineSilent):
        raise kept[1]
    return kept[1]


def _ask(binary: Path) -> str:
    quiet = {name: value for name, value in os.environ.items() if not name.startswith("IMAGEGEN_")}
    try:
        done = subprocess.run(
            [binary, "--help"],
            env=quiet,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PROBE_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise EngineSilent(f"{binary} --help did not end within {PROBE_TIMEOUT_S:g} s.") from None
    except OSError as failure:
        raise EngineSilent(f"{binary} cannot be run: {failure.strerror}. Build it again for this machine.") from None
    text = done.stdout.decode(errors="replace")
    if "Usage:" not in text:
        last = text.strip().splitlines()[-1:] or ["nothing"]
        raise EngineSilent(
            f"{binary} --help prints no usage text (exit status {done.returncode}; its last words: {last[0][:200]})."
        )
    return text


def channel_version(binary: Path) -> int | None:
    """The version of the channel (docs/engine.md) that is linked into a binary; None without one.

    `--help` keeps a binary without the channel, which ignores the variable, from starting.
    """
    try:
        done = subprocess.run(
            [binary, "--help"],
            env={**os.environ, "IMAGEGEN_CHANNEL_PROBE": "1", "GGML_NO_BACKTRACE": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=PROBE_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    told = re.fullmatch(rb"imagegen-channel (\d+)\n", done.stdout)
    return int(told[1]) if told else None

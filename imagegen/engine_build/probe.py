"""Queries an sd-server binary: its usage text, channel, backend and names, cached until the file changes."""

from __future__ import annotations

import mmap
import os
import re
import subprocess
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

from imagegen.engine_build.plan import Backend, EngineBuildError, read_manifest

PROBE_TIMEOUT_S = 20.0
UPSCALE_MODE, UPSCALE_VERSION = "--imagegen-upscale", b"imagegen-upscale 1\n"


class EngineSilent(EngineBuildError):
    """The binary does not run or prints no usage text; the message says how it ended."""


_NAMES: dict[Backend, tuple[bytes, ...]] = {
    "cuda": (b"libcuda.so", b"libcudart.so", b"libggml-cuda"),
    "vulkan": (b"libvulkan.so", b"libggml-vulkan"),
}
"""The libraries that a binary of the backend names."""

T = TypeVar("T")


class _Cache(Generic[T]):
    """Answers about binaries, each kept until its file changes. One thread asks; others wait for its answer."""

    def __init__(self, ask: Callable[[Path], T]) -> None:
        self._ask, self._kept = ask, dict[Path, tuple[tuple[int, int], T]]()
        self._lock = threading.Lock()

    def get(self, binary: Path) -> T:
        """Raises EngineSilent if there is no such file, and what `ask` raises."""
        mark = _mark(binary)
        with self._lock:
            kept = self._kept.get(binary)
            if kept is None or kept[0] != mark:
                kept = self._kept[binary] = mark, self._ask(binary)
        return kept[1]


def usage(binary: Path) -> str:
    """The output of `sd-server --help`, both streams. The first call blocks for some 10 ms.

    Raises EngineSilent. The exit status is ignored: the pinned version reports --help as an invalid parameter, prints
    its usage nevertheless, and exits with 0.
    """
    answer = _usages.get(binary)
    if isinstance(answer, EngineSilent):
        raise answer
    return answer


def channel_version(binary: Path) -> int | None:
    """The version of the channel (docs/engine.md) that is linked into a binary; None without a channel.

    A binary without the channel ignores IMAGEGEN_CHANNEL_PROBE; `--help` makes it exit instead of starting a server.
    """
    try:
        return _channels.get(binary)
    except EngineSilent:
        return None


def can_upscale(binary: Path) -> bool:
    """Whether upscale.cpp of this release is linked into a binary. Another one ends at the unknown argument."""
    try:
        return _upscalers.get(binary)
    except EngineSilent:
        return False


def backend_of(binary: Path) -> Backend:
    """The backend that a binary was built for, from the libraries that it names; cpu for a file that is unreadable."""
    try:
        return _backends.get(binary)
    except (EngineSilent, OSError, ValueError):  # ValueError: an empty file cannot be mapped
        return "cpu"


def _read_backend(binary: Path) -> Backend:
    with _mapped(binary) as content:
        for backend, names in _NAMES.items():
            if any(content.find(name) >= 0 for name in names):
                return backend
    return "cpu"


def release_of(binary: Path) -> str | None:
    """The engine's release, from the manifest that the builder put beside it; None if there is none."""
    manifest = read_manifest(binary.resolve().parent)
    return None if manifest is None or manifest.version == "unknown" else manifest.version


def lacking_names(binary: Path, names: Collection[str]) -> tuple[str, ...]:
    """Those of `names` that do not occur in the binary; empty if it cannot be read.

    sd-server ignores request fields that it does not know and lists them nowhere, but their names are texts in it. A
    script that starts it counts as one that knows them all.
    """
    if not names:
        return ()
    try:
        known = _names.get(binary)
        if new := [name for name in names if name not in known]:
            with _mapped(binary) as content:
                is_script = content[:4] != b"\x7fELF"
                known.update({name: is_script or content.find(name.encode()) >= 0 for name in new})
    except (EngineSilent, OSError, ValueError):
        return ()
    return tuple(name for name in names if not known[name])


@contextmanager
def _mapped(binary: Path) -> Iterator[mmap.mmap]:
    """The content of a file. Raises OSError, ValueError for an empty file."""
    with binary.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        yield content


def _mark(binary: Path) -> tuple[int, int]:
    """Modification time and size, which change with the file. Raises EngineSilent."""
    try:
        stat = binary.stat()
    except OSError as gone:
        raise EngineSilent(f"The engine {binary} cannot be looked at ({gone.strerror}).") from None
    return stat.st_mtime_ns, stat.st_size


def _ask_usage(binary: Path) -> str | EngineSilent:
    """The usage text, or the error, which is kept too: a binary that hangs must not block every call."""
    try:
        done = _help(binary, {}, subprocess.STDOUT)
    except subprocess.TimeoutExpired:
        return EngineSilent(f"{binary} --help did not end within {PROBE_TIMEOUT_S:g} s.")
    except OSError as failure:
        return EngineSilent(f"{binary} cannot be run: {failure.strerror}. Build it again for this machine.")
    text = done.stdout.decode(errors="replace")
    if "Usage:" not in text:
        last = text.strip().splitlines()[-1:] or ["nothing"]
        return EngineSilent(
            f"{binary} --help prints no usage text (exit status {done.returncode}; its last words: {last[0][:200]})."
        )
    return text


def _ask_channel(binary: Path) -> int | None:
    try:
        done = _help(binary, {"IMAGEGEN_CHANNEL_PROBE": "1", "GGML_NO_BACKTRACE": "1"}, subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return None
    answer = re.fullmatch(rb"imagegen-channel (\d+)\n", done.stdout)
    return int(answer[1]) if answer else None


def _ask_upscaler(binary: Path) -> bool:
    try:
        done = _help(binary, {"GGML_NO_BACKTRACE": "1"}, subprocess.DEVNULL, UPSCALE_MODE)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.stdout == UPSCALE_VERSION


def _help(
    binary: Path, variables: dict[str, str], stderr: int, argument: str = "--help"
) -> subprocess.CompletedProcess[bytes]:
    """Run the binary with one argument and without this service's settings. Raises OSError, TimeoutExpired."""
    quiet = {name: value for name, value in os.environ.items() if not name.startswith("IMAGEGEN_")}
    return subprocess.run(
        [binary, argument],
        env=quiet | variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        timeout=PROBE_TIMEOUT_S,
        check=False,
    )


def _no_names(_binary: Path) -> dict[str, bool]:
    return {}


_usages = _Cache(_ask_usage)
_channels = _Cache(_ask_channel)
_upscalers = _Cache(_ask_upscaler)
_backends = _Cache(_read_backend)
_names = _Cache(_no_names)
"""By name: whether it occurs in the binary. `lacking_names` adds to it."""

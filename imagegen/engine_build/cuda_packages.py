"""Installs CUDA's compiler and cuBLAS from the package index into the cache, for a GPU host without a toolkit.

The packages are those of `requirements/cuda.txt`, pinned by hash. They are not installed into the user's Python
environment.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from imagegen.engine_build import command as process
from imagegen.engine_build.cards import Cards
from imagegen.engine_build.plan import EngineBuildError, OnProgress, Stage, oldest_driver

LOCK = Path(__file__).parent / "cuda.txt"
RELEASE = (13, 0)
"""The CUDA release of the packages."""

DOWNLOAD_BYTES = {
    "nvidia-cublas==13.0.2.14": 420_882_912,
    "nvidia-cuda-cccl==13.0.85": 3_120_526,
    "nvidia-cuda-crt==13.0.88": 134_086,
    "nvidia-cuda-nvcc==13.0.88": 37_384_532,
    "nvidia-cuda-runtime==13.0.96": 2_243_632,
    "nvidia-nvvm==13.0.88": 61_601_415,
}
"""Size of each wheel for x86-64, as served by the package index."""

DISK_BYTES = 2_000_000_000
"""Free space required: 525 MB of wheels and 840 MB of unpacked files were measured; the rest is a margin."""

TYPICAL_BYTES_PER_S = 12_000_000
"""100 Mbit/s: used only for the estimate in the first message. The progress bar then shows the real rate."""

_PIN = re.compile(r"^([\w-]+==[\w.]+)((?:[ \t]*\\\n[ \t]+--hash=sha256:[0-9a-f]{64})+)", re.MULTILINE)
POLL_S = 0.5
PIP = (sys.executable, "-m", "pip", "--no-input", "--disable-pip-version-check")


@dataclass(frozen=True)
class Pin:
    """One package of the lock file, with its hashes, in pip's format."""

    name: str  # with the version: `nvidia-nvvm==13.0.88`
    lines: str

    @property
    def stem(self) -> str:
        """The prefix of its wheels' file names."""
        return self.name.replace("-", "_").replace("==", "-") + "-"


def pins() -> list[Pin]:
    """The packages of the lock file."""
    found = _PIN.findall(LOCK.read_text())
    return [Pin(name, name + hashes) for name, hashes in found]


def folder(engine_dir: Path) -> Path:
    """The folder into which the packages of the lock file are installed."""
    release = ".".join(map(str, RELEASE))
    lock = LOCK.read_bytes() if LOCK.is_file() else b""  # an image's builder stage has the packages, and no lock
    return engine_dir / f"cuda-{release}-packages-{hashlib.sha256(lock).hexdigest()[:8]}"


def check_driver(cards: Cards) -> None:
    """Raises EngineBuildError if the driver does not support the packages' CUDA release; call it before a download."""
    if cards.driver_cuda is not None and cards.driver_cuda[0] < RELEASE[0]:
        has = ".".join(map(str, cards.driver_cuda))
        raise EngineBuildError(
            f"The NVIDIA driver here ({cards.driver}) runs CUDA up to {has}, and the compiler of the package index is "
            f"of CUDA {RELEASE[0]}, which needs the driver {oldest_driver(RELEASE)} or newer. Update the driver, or "
            f"install a toolkit of CUDA {cards.driver_cuda[0]} (12.8 or newer, with cuBLAS)."
        )


def install(engine_dir: Path, scratch: Path, log: BinaryIO, on_progress: OnProgress) -> Path:
    """Fetch the packages if necessary and return their folder (`nvidia/cu13` is the toolkit).

    Runs under the cache's lock. Each downloaded package stays in the cache, so the next call resumes with the one that
    was interrupted. Raises EngineBuildError with pip's message, OSError for a full disk.
    """
    target = folder(engine_dir)
    if target.is_dir():
        return target
    if not LOCK.is_file():
        raise EngineBuildError(
            f"CUDA's compiler, nvcc, was not found, and this installation lacks {LOCK.name}, the list of its packages: "
            "install NVIDIA's CUDA toolkit (12.8 or newer, with cuBLAS)."
        )
    wheels = engine_dir / "cuda-wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    wanted = pins()
    total = sum(DOWNLOAD_BYTES.get(pin.name, 0) for pin in wanted)
    missing = [pin for pin in wanted if not any(wheels.glob(pin.stem + "*.whl"))]
    left = sum(DOWNLOAD_BYTES.get(pin.name, 0) for pin in missing)
    if missing:
        if shutil.disk_usage(engine_dir).free < DISK_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        minutes = max(1, round(left / TYPICAL_BYTES_PER_S / 60))
        on_progress(
            Stage.TOOLKIT, 0, 0,
            f"No CUDA toolkit was found: fetching NVIDIA's compiler and cuBLAS from the package index "
            f"({left / 1e6:.0f} MB; about {minutes} min at 100 Mbit/s) into {engine_dir}. Your Python environment "
            "stays as it is.",
        )  # fmt: skip
        with _bytes_shown(wheels, scratch, total, on_progress):
            for pin in missing:
                _fetch(pin, wheels, scratch, log)
    on_progress(Stage.TOOLKIT, 0, 0, "Unpacking CUDA's compiler")
    staging = scratch / "cuda"
    argv: list[str | Path] = [*PIP, "install", "--quiet", "--no-index", "--no-deps", "--no-compile", "--require-hashes"]
    argv += ["--find-links", wheels, "--target", staging, "-r", LOCK]
    status, output = process.run(argv, env=process.environment(scratch), log=log)
    if status != 0:
        if output.disk_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        shutil.rmtree(wheels)  # a wheel is damaged: the next call fetches all again
        raise EngineBuildError(
            f"CUDA's packages could not be unpacked:\n{output.quote()}\nRun again. Full log: {log.name}"
        )
    staging.rename(target)
    shutil.rmtree(wheels)
    return target


def _fetch(pin: Pin, wheels: Path, scratch: Path, log: BinaryIO) -> None:
    """Fetch one wheel with pip, which checks its hash. Raises EngineBuildError, or OSError for a full disk."""
    requirement, arrived = scratch / "cuda-requirement.txt", scratch / "cuda-wheel"
    requirement.write_text(pin.lines + "\n")
    argv: list[str | Path] = [*PIP, "download", "--no-deps", "--only-binary", ":all:", "--require-hashes"]
    argv += ["--no-cache-dir", "--progress-bar", "off", "-r", requirement, "-d", arrived]
    status, output = process.run(argv, env=process.environment(scratch), log=log)
    if status != 0:
        if output.disk_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        words = [line.strip() for line in output.tail if line.strip()][-1:] or [f"exit status {status}"]
        raise EngineBuildError(
            f"{pin.name} could not be fetched from the package index: {words[0]}. Check the network and pip's "
            "settings (`pip config list`), or install NVIDIA's CUDA toolkit (12.8 or newer, with cuBLAS) yourself. "
            "Run again: what has arrived is kept."
        )
    for wheel in arrived.iterdir():
        shutil.move(wheel, wheels / wheel.name)


@contextmanager
def _bytes_shown(wheels: Path, scratch: Path, total: int, on_progress: OnProgress) -> Iterator[None]:
    """Report the downloaded megabytes, including kept wheels, while pip runs without output."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(POLL_S):
            here = min(total, _bytes_in(wheels) + _bytes_in(scratch))
            on_progress(Stage.TOOLKIT, here // 1_000_000, total // 1_000_000, "Fetching CUDA's compiler")

    watch = threading.Thread(target=look, daemon=True)
    watch.start()
    try:
        yield
    finally:
        over.set()
        watch.join()


def _bytes_in(place: Path) -> int:
    """Bytes of the files below a folder; files may be deleted meanwhile."""
    total = 0
    for file in place.rglob("*"):
        try:
            total += file.stat().st_size if file.is_file() else 0
        except OSError:
            continue
    return total

"""Builds sd-server: one builder at a time, in a temporary folder that is renamed once the binary has run."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from imagegen.engine_build import archive, cuda_packages, source, toolchain, vulkan_sdk
from imagegen.engine_build.cards import find_cards
from imagegen.engine_build.compilation import Compilation
from imagegen.engine_build.plan import (
    BINARY,
    PINNED,
    Archive,
    Backend,
    EngineBuildError,
    Manifest,
    OnProgress,
    Options,
    Sdist,
    Stage,
    cpu_features,
    name_of,
    read_manifest,
)

SCRATCH_PREFIX = ".building-"
DISK_BYTES: dict[Backend, int] = {"cpu": 400_000_000, "cuda": 6_000_000_000, "vulkan": 2_000_000_000}
"""Free space required before a build. CPU: 300 MB measured at the peak, plus a margin. CUDA and Vulkan:
allowances, not measured."""


@dataclass(frozen=True)
class Built:
    """A finished build in the cache; `fresh`: made by this call."""

    binary: Path
    manifest: Manifest
    fresh: bool


def build(
    engine_dir: Path,
    options: Options,
    on_progress: OnProgress,
    *,
    jobs: int | None = None,
    sdist: Sdist | Archive = PINNED,
) -> Built:
    """Build sd-server into `engine_dir/<name>/`, or return the existing build.

    sdist: the source; an archive of the user is checked first.
    jobs: parallel compilers; None: as many as cores and memory allow. Raises EngineBuildError with a sentence. After
    any interruption, KeyboardInterrupt included, a later run does not mistake the remains for a finished build.
    """
    if isinstance(sdist, Archive):
        archive.check(sdist)
    features = cpu_features()
    folder = engine_dir / name_of(sdist, options, features)
    found = existing(folder)
    if found is not None:
        on_progress(Stage.READY, 0, 0, f"Already built: {folder / BINARY}")
        return Built(folder / BINARY, found, fresh=False)
    toolchain.check_compilers()
    if options.backend == "vulkan":
        vulkan_sdk.check()
    cuda = _find_cuda(options, engine_dir) if options.backend == "cuda" else None
    try:
        engine_dir.mkdir(parents=True, exist_ok=True)
        with only_builder(engine_dir, on_progress):
            found = existing(folder)  # the builder that held the lock may have made it
            if found is not None:
                on_progress(Stage.READY, 0, 0, f"Already built: {folder / BINARY}")
                return Built(folder / BINARY, found, fresh=False)
            _sweep(engine_dir)
            _check_disk(engine_dir, options.backend)
            with tempfile.TemporaryDirectory(
                prefix=SCRATCH_PREFIX, dir=engine_dir, ignore_cleanup_errors=True
            ) as scratch:
                if options.backend == "cuda" and cuda is None:
                    cuda = _fetch_cuda(options, engine_dir, Path(scratch), on_progress)
                work = Compilation(engine_dir, Path(scratch), options, cuda, jobs, sdist, on_progress)
                manifest = work.make(folder, features)
    except OSError as error:
        raise EngineBuildError(_disk_sentence(engine_dir, options.backend, error)) from error
    built = Built(folder / BINARY, manifest, fresh=True)
    on_progress(Stage.READY, 0, 0, f"Built in {manifest.seconds:.0f} s: {built.binary}")
    return built


def _find_cuda(options: Options, engine_dir: Path) -> toolchain.Cuda | None:
    """The toolkit of this machine; None if it has to be fetched from the package index.

    Raises EngineBuildError.
    """
    cards = find_cards()
    try:
        cuda = toolchain.find_cuda(cuda_packages.folder(engine_dir))
    except toolchain.NoCuda:
        if not options.portable:
            cuda_packages.check_driver(cards)
        return None
    toolchain.check_archs(cuda, options.archs)
    driver = cards.driver_cuda
    release = ".".join(map(str, cuda.release))
    if driver is not None and not options.portable and cuda.release[0] > driver[0]:
        raise EngineBuildError(
            f"nvcc {release} ({cuda.nvcc}) is too new for this machine's NVIDIA driver, which runs CUDA up "
            f"to {driver[0]}.{driver[1]}: the engine would not find the GPU. Update the driver, or use a "
            f"CUDA {driver[0]} toolkit (CUDACXX names its nvcc)."
        )
    return cuda


def _fetch_cuda(options: Options, engine_dir: Path, scratch: Path, on_progress: OnProgress) -> toolchain.Cuda:
    """Install the toolkit from the package index into the cache. Raises EngineBuildError, OSError."""
    logs = engine_dir / "logs"
    logs.mkdir(exist_ok=True)
    with (logs / "cuda-packages.log").open("wb") as log:
        folder = cuda_packages.install(engine_dir, scratch, log, on_progress)
    cuda = toolchain.find_cuda(folder)
    toolchain.check_archs(cuda, options.archs)
    return cuda


def existing(folder: Path) -> Manifest | None:
    """The manifest of the build in `folder`; None if there is none, or if its binary has another hash."""
    manifest = read_manifest(folder)
    if manifest is None or source.sha256_of(folder / BINARY) != manifest.sha256:
        return None
    return manifest


@contextmanager
def only_builder(engine_dir: Path, on_progress: OnProgress) -> Iterator[None]:
    """Hold the cache's lock; the kernel releases it when this process exits, for any reason."""
    with (engine_dir / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            owner = lock.read().strip() or "unknown"
            on_progress(
                Stage.WAITING,
                0,
                0,
                f"Another build of the engine is running (process {owner}): waiting for it",
            )
            fcntl.flock(lock, fcntl.LOCK_EX)
        lock.seek(0)
        lock.truncate()
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def _sweep(engine_dir: Path) -> None:
    """Remove the folders of interrupted builds. Called under the lock, so none is in use."""
    for leftover in engine_dir.glob(f"{SCRATCH_PREFIX}*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _check_disk(engine_dir: Path, backend: Backend) -> None:
    if shutil.disk_usage(engine_dir).free < DISK_BYTES[backend]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _disk_sentence(engine_dir: Path, backend: Backend, error: OSError) -> str:
    """The message for an OSError of the cache folder."""
    if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
        return (
            f"The build stopped at a file it could not read or write: {error}. Correct that, or set "
            f"IMAGEGEN_CACHE (now {engine_dir.parent}) to a folder you can write to."
        )
    need = DISK_BYTES[backend] / 1e9
    try:
        free = f"{shutil.disk_usage(engine_dir).free / 1e9:.1f} GB are free there now"
    except OSError:
        free = "how much is free is not known"
    return (
        f"Not enough disk space in {engine_dir}: a {backend.upper()} build needs {need:.1f} GB, and {free}. "
        "Nothing was installed. Free some space, or set IMAGEGEN_CACHE to a folder on a larger disk, and run "
        "again."
    )

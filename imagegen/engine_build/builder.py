"""Building sd-server: one builder at a time, in a folder of its own, renamed into place once it has run."""

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

from imagegen.engine_build import source, toolchain
from imagegen.engine_build.cards import find_cards
from imagegen.engine_build.compilation import Compilation
from imagegen.engine_build.plan import (
    BINARY,
    PINNED,
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
DISK_BYTES: dict[Backend, int] = {"cpu": 400_000_000, "cuda": 6_000_000_000}
"""Free space asked for before a build. CPU: 300 MB were measured at the peak; CUDA: an allowance, not measured."""


@dataclass(frozen=True)
class Built:
    """A finished build in the cache; `fresh` when this call made it."""

    binary: Path
    manifest: Manifest
    fresh: bool


def build(
    engine_dir: Path,
    options: Options,
    on_progress: OnProgress,
    *,
    jobs: int | None = None,
    sdist: Sdist = PINNED,
) -> Built:
    """Build sd-server into `engine_dir/<name>/`, or find it there.

    jobs: parallel compilers; None for as many as cores and memory allow. Raises EngineBuildError with a
    sentence. Whatever ends it, KeyboardInterrupt included, leaves nothing that a later run takes for whole.
    """
    features = cpu_features()
    folder = engine_dir / name_of(sdist, options, features)
    found = _existing(folder)
    if found is not None:
        on_progress(Stage.READY, 0, 0, f"Already built: {found.binary}")
        return found
    toolchain.check_compilers()
    cuda = _find_cuda(options) if options.backend == "cuda" else None
    try:
        engine_dir.mkdir(parents=True, exist_ok=True)
        with _only_builder(engine_dir, on_progress):
            found = _existing(folder)  # the builder we waited for may have made it
            if found is not None:
                on_progress(Stage.READY, 0, 0, f"Already built: {found.binary}")
                return found
            _sweep(engine_dir)
            _check_disk(engine_dir, options.backend)
            with tempfile.TemporaryDirectory(
                prefix=SCRATCH_PREFIX, dir=engine_dir, ignore_cleanup_errors=True
            ) as scratch:
                work = Compilation(engine_dir, Path(scratch), options, cuda, jobs, sdist, on_progress)
                manifest = work.make(folder, features)
    except OSError as error:
        raise EngineBuildError(_disk_sentence(engine_dir, options.backend, error)) from error
    built = Built(folder / BINARY, manifest, fresh=True)
    on_progress(Stage.READY, 0, 0, f"Built in {manifest.seconds:.0f} s: {built.binary}")
    return built


<<<<<<< HEAD
=======
@dataclass(frozen=True)
class _Work:
    """One build, from the archive to the finished folder. Held under the cache's lock."""

    engine_dir: Path
    scratch: Path
    options: Options
    cuda: toolchain.Cuda | None
    jobs: int | None
    sdist: Sdist
    on_progress: OnProgress

    def make(self, folder: Path, features: frozenset[str]) -> Manifest:
        logs = self.engine_dir / "logs"
        logs.mkdir(exist_ok=True)
        with (logs / f"{folder.name}.log").open("wb") as log:
            archive = source.fetch(self.sdist, self.engine_dir, self.scratch, log, self.on_progress)
            self.on_progress(Stage.UNPACKING, 0, 0, "Unpacking the source")
            tree = source.unpack(self.sdist, archive, self.scratch)
            started = time.monotonic()
            self._configure(tree, log)
            self._compile(log)
            binary = self._check(log)
            channel = self._check_channel(binary, log)
            seconds = time.monotonic() - started
        out = self.scratch / "out"
        out.mkdir()
        binary.rename(out / BINARY)
        manifest = Manifest(
            version=self.sdist.version,
            backend=self.options.backend,
            archs=self.options.archs,
            portable=self.options.portable,
            flags=self.options.flags,
            cpu_features=tuple(sorted(self.options.needs(features))),
            sha256=source.sha256_of(out / BINARY),
            size_bytes=(out / BINARY).stat().st_size,
            seconds=round(seconds, 1),
            cuda=self.cuda.release if self.cuda is not None else None,
            channel=channel,
        )
        (out / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n")
        if folder.exists():  # `_existing` found it damaged
            shutil.rmtree(folder)
        out.rename(folder)
        return manifest

    def _configure(self, tree: Path, log: BinaryIO) -> None:
        self.on_progress(Stage.CONFIGURING, 0, 0, "Configuring with CMake")
        command: list[str | Path] = [
            toolchain.packaged("cmake"),
            "-G",
            "Ninja",
            "-S",
            tree,
            "-B",
            self.scratch / "build",
        ]
        command += [f"-DCMAKE_MAKE_PROGRAM={toolchain.packaged('ninja')}", *self.options.flags]
        command.append(f"-DCMAKE_PROJECT_INCLUDE={CHANNEL_DIR / 'add.cmake'}")
        if self.cuda is not None:
            cuda = toolchain.linked(self.cuda, self.engine_dir)
            command += [f"-DCMAKE_CUDA_COMPILER={cuda.nvcc}", f"-DCUDAToolkit_ROOT={cuda.root}"]
        status, output = process.run(command, env=process.environment(self.scratch), log=log)
        if status != 0:
            raise self._failure("CMake could not configure the engine's source", status, output, log)

    def _compile(self, log: BinaryIO) -> None:
        jobs = self.jobs or default_jobs(self.options.backend)
        self.on_progress(Stage.COMPILING, 0, 0, f"Compiling with {jobs} job{'s' if jobs > 1 else ''}")

        def on_line(line: str) -> None:
            step = process.parse_ninja(line)
            if step is not None and step.done > 0:  # "[0/2] Re-checking globbed directories" counts nothing
                self.on_progress(Stage.COMPILING, step.done, step.total, step.what)

        command: list[str | Path] = [
            toolchain.packaged("ninja"),
            "-C",
            self.scratch / "build",
            "-j",
            str(jobs),
            BINARY,
        ]
        status, output = process.run(command, env=process.environment(self.scratch), log=log, on_line=on_line)
        if status != 0:
            raise self._failure("Compiling the engine failed", status, output, log)

    def _check(self, log: BinaryIO) -> Path:
        """Run the new binary once: a missing library or a wrong instruction set shows now, not at a job."""
        self.on_progress(Stage.CHECKING, 0, 0, "Checking that it runs")
        binary = self.scratch / "build" / "bin" / BINARY
        try:
            answer = subprocess.run(
                [binary, "--help"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=CHECK_TIMEOUT_S,
                env={**os.environ, "GGML_NO_BACKTRACE": "1"},  # else ggml forks a debugger when it aborts
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise EngineBuildError(f"sd-server was built but does not run: {error}. Full log: {log.name}") from error
        log.write(answer.stdout)
        if answer.returncode != 0 or b"--listen-port" not in answer.stdout:
            last = answer.stdout.decode(errors="replace").strip().splitlines()[-1:] or ["no output"]
            raise EngineBuildError(
                f"sd-server was built but does not run (exit status {answer.returncode}): {last[0]}. "
                f"Full log: {log.name}"
            )
        return binary

    def _check_channel(self, binary: Path, log: BinaryIO) -> int:
        """The channel's version as the new binary reports it."""
        version = probe.channel_version(binary)
        if version is None:
            raise EngineBuildError(
                "sd-server was built without the service's channel, so pictures could not be stopped. "
                f"Full log: {log.name}"
            )
        return version

    def _failure(self, what: str, status: int, output: process.Output, log: BinaryIO) -> Exception:
        if output.disk_full:
            return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if output.out_of_memory:
            return EngineBuildError(
                f"{what}: memory ran out. Run again with fewer compilers at once (`--jobs 1`). Full log: {log.name}"
            )
        return EngineBuildError(
            f"{what} (exit status {status}). Its last lines:\n{output.quote()}\nFull log: {log.name}"
        )


def default_jobs(backend: Backend) -> int:
    """Parallel compilers: one a core we may use, fewer where memory is short."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    spare_bytes = psutil.virtual_memory().available - LARGEST_COMPILE_BYTES
    return max(1, min(cores, 1 + spare_bytes // JOB_MEMORY_BYTES[backend]))


>>>>>>> main
def _find_cuda(options: Options) -> toolchain.Cuda:
    cuda = toolchain.find_cuda()
    toolchain.check_archs(cuda, options.archs)
    driver = find_cards().driver_cuda
    release = ".".join(map(str, cuda.release))
    if driver is not None and not options.portable and cuda.release[0] > driver[0]:
        raise EngineBuildError(
            f"nvcc {release} ({cuda.nvcc}) is too new for this machine's NVIDIA driver, which runs CUDA up "
            f"to {driver[0]}.{driver[1]}: the engine would not find the GPU. Update the driver, or use a "
            f"CUDA {driver[0]} toolkit (CUDACXX names its nvcc)."
        )
    return cuda


def _existing(folder: Path) -> Built | None:
    manifest = read_manifest(folder)
    if manifest is None or source.sha256_of(folder / BINARY) != manifest.sha256:
        return None
    return Built(folder / BINARY, manifest, fresh=False)


@contextmanager
def _only_builder(engine_dir: Path, on_progress: OnProgress) -> Iterator[None]:
    """Hold the cache's lock; the kernel lets go of it when we end, however we end."""
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
    """Remove what interrupted builds left; called under the lock, so none of it is in use."""
    for leftover in engine_dir.glob(f"{SCRATCH_PREFIX}*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _check_disk(engine_dir: Path, backend: Backend) -> None:
    if shutil.disk_usage(engine_dir).free < DISK_BYTES[backend]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _disk_sentence(engine_dir: Path, backend: Backend, error: OSError) -> str:
    """What an OSError of the cache folder means to the person who asked for the build."""
    if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
        return (
            f"The build stopped at a file it could not read or write: {error}. Correct that, or set "
            f"IMAGEGEN_CACHE (now {engine_dir.parent}) to a folder you can write to."
        )
    need = DISK_BYTES[backend] / 1e9
    try:
        free = f"{shutil.disk_usage(engine_dir).free / 1e9:.1f} GB are free there now"
    except OSError:
        free = "how much is free cannot be told"
    return (
        f"Not enough disk space in {engine_dir}: a {backend.upper()} build needs {need:.1f} GB, and {free}. "
        "Nothing was installed. Free some space, or set IMAGEGEN_CACHE to a folder on a larger disk, and run "
        "again."
    )

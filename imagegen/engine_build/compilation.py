"""Compilation: one build of sd-server, from the source archive to a folder with a binary that has run once."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import psutil

from imagegen.engine_build import archive, probe, source, toolchain
from imagegen.engine_build import command as process
from imagegen.engine_build.plan import (
    BINARY,
    CHANNEL_DIR,
    MANIFEST,
    Archive,
    Backend,
    EngineBuildError,
    Manifest,
    OnProgress,
    Options,
    Sdist,
    Stage,
)

LARGEST_COMPILE_BYTES: dict[Backend, int] = {"cpu": 2_500_000_000, "cuda": 2_500_000_000, "vulkan": 3_100_000_000}
"""Memory of the largest compiler: that of the tokenizers' tables (vocab.cpp: 2.44 GB measured with GCC 12); for Vulkan
3.03 GB, the largest process of a whole build (GCC 12, `/usr/bin/time -v imagegen engine build --backend vulkan`)."""

JOB_MEMORY_BYTES: dict[Backend, int] = {"cpu": 1_200_000_000, "cuda": 2_000_000_000, "vulkan": 1_200_000_000}
"""Memory of each further compiler. CPU: 1.14 GB measured for the next largest file (stable-diffusion.cpp, GCC 12);
CUDA: an estimate, not measured."""

CHECK_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Compilation:
    """One build, from the archive to the finished folder. Runs under the cache's lock."""

    engine_dir: Path
    scratch: Path
    options: Options
    cuda: toolchain.Cuda | None
    jobs: int | None
    sdist: Sdist | Archive
    on_progress: OnProgress

    def make(self, folder: Path, features: frozenset[str]) -> Manifest:
        logs = self.engine_dir / "logs"
        logs.mkdir(exist_ok=True)
        with (logs / f"{folder.name}.log").open("wb") as log:
            tree, version = self._unpacked(log)
            started = time.monotonic()
            self._configure(tree, log)
            self._compile(log)
            binary = self._check(log)
            channel = self._check_channel(binary, log) if self.options.channel else None
            seconds = time.monotonic() - started
        out = self.scratch / "out"
        out.mkdir()
        binary.rename(out / BINARY)
        manifest = Manifest(
            version=version,
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
        if folder.exists():  # damaged, according to `existing`
            shutil.rmtree(folder)
        out.rename(folder)
        return manifest

    def _unpacked(self, log: BinaryIO) -> tuple[Path, str]:
        """The source folder for CMake and the version of the engine."""
        if isinstance(self.sdist, Archive):
            self.on_progress(Stage.UNPACKING, 0, 0, "Unpacking the source")
            return archive.unpack(self.sdist, self.scratch / "source")
        fetched = source.fetch(self.sdist, self.engine_dir, self.scratch, log, self.on_progress)
        self.on_progress(Stage.UNPACKING, 0, 0, "Unpacking the source")
        return source.unpack(self.sdist, fetched, self.scratch), self.sdist.version

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
        if self.options.channel:
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

        misfits: list[str] = []

        def on_line(line: str) -> None:
            misfits.extend(channel_misfits(line))
            step = process.parse_ninja(line)
            if step is not None and step.done > 0:  # "[0/2] Re-checking globbed directories" is not a compile step
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
        if status != 0 and misfits:
            raise EngineBuildError(
                f"The service's channel does not fit this source ({'; '.join(dict.fromkeys(misfits))}). With "
                "`--without-channel` the engine is built without it: it then listens on a port of 127.0.0.1, sends no "
                "previews, enlarges no pictures by a network, and cannot stop a running picture. Full log: "
                f"{log.name}"
            )
        if status != 0:
            raise self._failure("Compiling the engine failed", status, output, log)

    def _check(self, log: BinaryIO) -> Path:
        """Run the new binary once, to detect a missing library or a wrong instruction set before the first job."""
        self.on_progress(Stage.CHECKING, 0, 0, "Checking that it runs")
        binary = self.scratch / "build" / "bin" / BINARY
        try:
            answer = subprocess.run(
                [binary, "--help"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=CHECK_TIMEOUT_S,
                env={**os.environ, "GGML_NO_BACKTRACE": "1"},  # else ggml forks a debugger at an abort
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
        """The channel's version as reported by the new binary. Raises EngineBuildError if it has none."""
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


_LACKING_SYMBOL = re.compile(r"(?:channel|upscale)\.cpp(?:\.o)?:\(.*undefined reference to `(?:__real_)?(.+)'$")
_CHANNEL_ERROR = re.compile(r"/channel/((?:channel|upscale)\.cpp):\d+:\d+: error: (.+)$")


def channel_misfits(line: str) -> list[str]:
    """What a line of the compiler or the linker says about a channel that does not fit the engine's source.

    GNU ld is understood. It names a wrapped function that the source lacks by its own name or as `__real_…`.
    """
    found = [f"it lacks {symbol}" for symbol in _LACKING_SYMBOL.findall(line)]
    return found + [f"{file}: {error}" for file, error in _CHANNEL_ERROR.findall(line)]


def default_jobs(backend: Backend) -> int:
    """The number of parallel compilers: one per usable core, fewer if memory is short."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    spare_bytes = psutil.virtual_memory().available - LARGEST_COMPILE_BYTES[backend]
    return max(1, min(cores, 1 + spare_bytes // JOB_MEMORY_BYTES[backend]))

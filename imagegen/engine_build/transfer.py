"""Exports a built engine into one file, and installs it on other machines.

The file is a gzipped tar: first `package.json`, then the binary, its manifest, and below `lib/` the libraries that a
machine with only an NVIDIA driver lacks. The binary's run path is `lib/` in its own folder.
"""

from __future__ import annotations

import hashlib
import io
import os
import platform
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pydantic import BaseModel, ConfigDict, ValidationError

from imagegen.engine_build import builder, misfit, probe, source
from imagegen.engine_build.cards import find_cards
from imagegen.engine_build.plan import (
    BINARY,
    MANIFEST,
    PINNED,
    EngineBuildError,
    Manifest,
    OnProgress,
    Options,
    Stage,
    name_of,
    read_manifest,
)

PACKAGE = "package.json"
FORMAT = 1
MAX_FILES = 64
MAX_BYTES = 8_000_000_000
"""Far above the largest engine (CUDA for all architectures with cuBLAS: about 2 GB)."""

MAX_PACKAGE_BYTES = 100_000
CHUNK_BYTES = 1 << 20
COMPRESSION = 1  # of 9: higher levels hardly reduce CUDA's libraries

OF_THE_SYSTEM = re.compile(r"^(ld-linux.*|linux-vdso|lib(c|m|dl|rt|pthread|cuda|vulkan))\.so")
"""Libraries that are not packed: those of the C library, which belong to the distribution, the NVIDIA driver's, and
Vulkan's loader, which finds the drivers."""

_LDD = re.compile(r"^\s*(\S+) => (/\S+|not found)", re.MULTILINE)


class File(BaseModel):
    """One file of a package."""

    model_config = ConfigDict(frozen=True)

    sha256: str
    bytes: int


class Package(BaseModel):
    """The description of a package."""

    model_config = ConfigDict(frozen=True)

    format: int
    name: str  # of the build's folder
    machine: str  # `uname -m`
    glibc: tuple[int, int]  # the C library of the build; an older one cannot load the binary
    manifest: Manifest
    files: dict[str, File]  # by path in the package


def export(folder: Path, target: Path, on_progress: OnProgress) -> Package:
    """Write the build in `folder` into the file `target`, which must not exist. Raises EngineBuildError."""
    manifest = builder.existing(folder)
    if manifest is None:
        raise EngineBuildError(f"The engine in {folder} is damaged: build it again with `imagegen engine build`.")
    if target.exists():
        raise EngineBuildError(f"{target} exists already: name another file, or remove it.")
    files = {BINARY: folder / BINARY, MANIFEST: folder / MANIFEST}
    files |= {f"lib/{library.name}": library for library in _libraries(folder / BINARY)}
    package = Package(
        format=FORMAT,
        name=folder.name,
        machine=platform.machine(),
        glibc=_glibc(),
        manifest=manifest,
        files={name: File(sha256=source.sha256_of(path), bytes=path.stat().st_size) for name, path in files.items()},
    )
    total = sum(file.bytes for file in package.files.values())
    on_progress(Stage.PACKING, 0, 0, f"Packing {len(files)} files, {total / 1e6:.0f} MB")
    making = target.with_name(f".{target.name}.making")
    try:
        with tarfile.open(making, "w:gz", compresslevel=COMPRESSION) as tar:
            head = package.model_dump_json(indent=2).encode()
            _add(tar, PACKAGE, io.BytesIO(head), len(head), 0o644)
            report = _Megabytes(total, on_progress)
            for name, path in files.items():
                with path.open("rb") as file:
                    size, mode = package.files[name].bytes, 0o755 if name == BINARY else 0o644
                    _add(tar, name, _Reported(file, report), size, mode)
        os.link(making, target)  # fails if another process has made the file meanwhile
    except OSError as error:
        raise EngineBuildError(f"{target} cannot be written: {error.strerror or error}.") from error
    finally:
        making.unlink(missing_ok=True)
    return package


def install(archive: Path, engine_dir: Path, on_progress: OnProgress) -> builder.Built:
    """Install the engine of a package into the cache, after a check that it runs on this machine.

    Raises EngineBuildError if the file is not a package, is damaged or from another release, or if this machine cannot
    run the engine. Then the cache is unchanged.
    """
    try:
        engine_dir.mkdir(parents=True, exist_ok=True)
        with _opened(archive) as (tar, package):
            _check(package)
            with builder.only_builder(engine_dir, on_progress):
                folder = engine_dir / package.name
                found = builder.existing(folder)
                if found is not None:
                    on_progress(Stage.READY, 0, 0, f"Already here: {folder / BINARY}")
                    return builder.Built(folder / BINARY, found, fresh=False)
                with tempfile.TemporaryDirectory(prefix=builder.SCRATCH_PREFIX, dir=engine_dir) as scratch:
                    out = Path(scratch) / "out"
                    _unpack(tar, package, out, on_progress)
                    on_progress(Stage.CHECKING, 0, 0, "Checking that it runs")
                    _check_runs(out / BINARY, package)
                    if folder.exists():
                        shutil.rmtree(folder)
                    out.rename(folder)
    except OSError as error:
        raise EngineBuildError(f"{error.filename or archive}: {error.strerror or error}.") from error
    on_progress(Stage.READY, 0, 0, f"Installed: {folder / BINARY}")
    return builder.Built(folder / BINARY, package.manifest, fresh=True)


def _libraries(binary: Path) -> list[Path]:
    """The libraries of the binary that have to be packed. Raises EngineBuildError."""
    try:
        answer = subprocess.run(["ldd", binary], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise EngineBuildError(f"The libraries of {binary} cannot be listed ({error}): `ldd` is needed.") from error
    found = []
    for name, path in _LDD.findall(answer.stdout):
        if OF_THE_SYSTEM.match(name):
            continue
        if path == "not found":
            raise EngineBuildError(f"The engine's library {name} is not on this machine: build the engine again.")
        found.append(Path(path).parent / name)  # under the name that the binary loads, which can be a link
    return found


def _glibc() -> tuple[int, int]:
    """The release of glibc on this machine; (0, 0) for another C library."""
    name, release = platform.libc_ver()
    numbers = re.match(r"(\d+)\.(\d+)", release) if name == "glibc" else None
    return (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)


class _Megabytes:
    """Call it with the bytes that were read or written: it reports each further megabyte of `total_bytes`."""

    def __init__(self, total_bytes: int, on_progress: OnProgress) -> None:
        self._total, self._on_progress, self._done = total_bytes, on_progress, 0

    def __call__(self, size: int) -> None:
        before, self._done = self._done, self._done + size
        if self._done // 1_000_000 > before // 1_000_000:
            self._on_progress(Stage.PACKING, self._done // 1_000_000, max(1, self._total // 1_000_000), "")


class _Reported(io.RawIOBase):
    """A file that reports what is read from it."""

    def __init__(self, file: IO[bytes], report: _Megabytes) -> None:
        self._file, self._report = file, report

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._report(len(data))
        return data


def _add(tar: tarfile.TarFile, name: str, file: IO[bytes] | io.RawIOBase, size: int, mode: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, mode
    tar.addfile(member, file)


@contextmanager
def _opened(archive: Path) -> Iterator[tuple[tarfile.TarFile, Package]]:
    """Open the archive and read its description. Raises EngineBuildError, OSError."""
    try:
        with tarfile.open(archive, "r|gz") as tar:
            first = tar.next()
            head = tar.extractfile(first) if first is not None and first.isfile() else None
            if first is None or head is None or first.name != PACKAGE or first.size > MAX_PACKAGE_BYTES:
                raise EngineBuildError(f"{archive} is no engine that `imagegen engine export` wrote.")
            yield tar, Package.model_validate_json(head.read())
    except (tarfile.TarError, EOFError, ValidationError) as error:
        what = str(error).splitlines()[0]
        raise EngineBuildError(f"{archive} is no whole engine package ({what}): copy or export it again.") from error


def _check(package: Package) -> None:
    """Raises EngineBuildError if, according to the package, this release or this machine cannot use the engine."""
    manifest = package.manifest
    if package.format != FORMAT:
        raise EngineBuildError("The package was written by another release of imagegen: export it again with this one.")
    options = Options(manifest.backend, manifest.archs, manifest.portable)
    if package.name != name_of(PINNED, options, frozenset(manifest.cpu_features)):
        raise EngineBuildError(
            f"The package has the engine of another release of imagegen ({package.name}): build and export it with the "
            "release that is installed here."
        )
    if package.machine != platform.machine():
        raise EngineBuildError(f"The engine was built for {package.machine}, and this machine is {platform.machine()}.")
    here = _glibc()
    if here < package.glibc:
        needed, found = (".".join(map(str, one)) for one in (package.glibc, here))
        raise EngineBuildError(
            f"The engine needs the C library glibc {needed} or newer, and this machine has {found}: build it on the "
            "oldest system that is to run it."
        )
    reason = misfit.misfit_of(manifest, find_cards())
    if reason is not None:
        raise EngineBuildError(f"The engine was {reason.why}: {reason.remedy}.")


def _unpack(tar: tarfile.TarFile, package: Package, out: Path, on_progress: OnProgress) -> None:
    """Write the package's files below `out`; verify sizes and hashes. Raises EngineBuildError."""
    total = sum(file.bytes for file in package.files.values())
    if len(package.files) > MAX_FILES or total > MAX_BYTES:
        raise EngineBuildError("The package is larger than any engine: it was not unpacked.")
    (out / "lib").mkdir(parents=True)
    left, report = dict(package.files), _Megabytes(total, on_progress)
    while (member := tar.next()) is not None:
        promised = left.pop(member.name, None)
        plain = member.name in {BINARY, MANIFEST} or re.fullmatch(r"lib/[\w.+-]+", member.name)
        file = tar.extractfile(member) if member.isfile() else None
        if promised is None or file is None or not plain or member.size != promised.bytes:
            raise EngineBuildError(f"The package has a file that it does not announce ({member.name[:100]!r}).")
        digest = hashlib.sha256()
        with (out / member.name).open("wb") as written:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
                written.write(chunk)
                report(len(chunk))
        if digest.hexdigest() != promised.sha256:
            raise EngineBuildError(f"{member.name} of the package is damaged: copy or export it again.")
    if left:
        raise EngineBuildError(f"The package lacks {', '.join(sorted(left))}: copy or export it again.")
    if read_manifest(out) != package.manifest:
        raise EngineBuildError("The package describes another engine than the one in it: export it again.")
    (out / BINARY).chmod(0o755)


def _check_runs(binary: Path, package: Package) -> None:
    """Raises EngineBuildError unless the binary starts here and has the channel that its manifest names."""
    try:
        probe.usage(binary)
    except probe.EngineSilent as silent:
        raise EngineBuildError(f"The engine does not run on this machine: {silent}") from silent
    if probe.channel_version(binary) != package.manifest.channel:
        raise EngineBuildError("The engine does not speak the channel that its manifest names: export it again.")

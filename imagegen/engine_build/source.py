"""The engine's source: fetched from the package index with pip, verified by hash, kept in the cache."""

from __future__ import annotations

import errno
import hashlib
import os
import sys
import tarfile
from pathlib import Path
from typing import BinaryIO

from imagegen.engine_build import command as process
from imagegen.engine_build.plan import EngineBuildError, OnProgress, Sdist, Stage


def fetch(sdist: Sdist, engine_dir: Path, scratch: Path, log: BinaryIO, on_progress: OnProgress) -> Path:
    """Return the archive, verified by hash; from the cache if it is there.

    The download uses pip, so the user's index, proxy and certificates apply. Raises EngineBuildError with pip's message
    if the download fails.
    """
    kept = engine_dir / "sdist" / sdist.filename
    if kept.is_file():
        if sha256_of(kept) == sdist.sha256:
            return kept
        kept.unlink()
        on_progress(Stage.FETCHING, 0, 0, f"The {sdist.filename} in the cache is damaged: fetching it again")
    size_mb = sdist.size_bytes / 1e6
    on_progress(Stage.FETCHING, 0, 0, f"Fetching {sdist.filename} ({size_mb:.1f} MB) from the package index")
    fetched = _download(sdist, scratch, log)
    got = sha256_of(fetched)
    if got != sdist.sha256:
        fetched.unlink()
        raise EngineBuildError(_wrong_hash(sdist, got))
    kept.parent.mkdir(parents=True, exist_ok=True)
    fetched.replace(kept)
    return kept


def unpack(sdist: Sdist, archive: Path, scratch: Path) -> Path:
    """Unpack the engine's part of the archive; return the source folder for CMake. Raises EngineBuildError."""
    root = f"{sdist.stem}/{sdist.source_dir}/"
    try:
        with tarfile.open(archive) as tar:
            members = [member for member in tar if member.name.startswith(root) and _is_plain(member)]
            if hasattr(tarfile, "data_filter"):
                tar.extractall(scratch, members, filter="data")
            else:  # Debian 12's Python 3.11.2; members that pass `_is_plain` need no filter
                tar.extractall(scratch, members)  # noqa: S202
    except tarfile.TarError as error:
        raise EngineBuildError(f"{archive} cannot be unpacked: {error}. Delete it and run again.") from error
    folder = scratch / root
    if not (folder / "CMakeLists.txt").is_file():
        raise EngineBuildError(f"{archive} holds no {sdist.source_dir}/CMakeLists.txt: it is not the engine's source.")
    return folder


def _is_plain(member: tarfile.TarInfo) -> bool:
    """Whether a member is a file or a folder (no link, no device) without `..` in its path."""
    return (member.isfile() or member.isdir()) and ".." not in Path(member.name).parts


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(sdist: Sdist, scratch: Path, log: BinaryIO) -> Path:
    """Fetch the archive with pip. pip also runs the installed build backend to read the package's metadata (a few
    seconds)."""
    requirement = scratch / "requirement.txt"
    requirement.write_text(f"{sdist.project}=={sdist.version} --hash=sha256:{sdist.sha256}\n")
    target = scratch / "download"
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "--no-input",
        "--disable-pip-version-check",
        "download",
    ]
    command += ["--no-deps", "--no-build-isolation", "--no-binary", ":all:", "--progress-bar", "off"]
    command += ["--require-hashes", "-r", requirement, "-d", target]
    status, output = process.run(command, env=process.environment(scratch), log=log)
    fetched = target / sdist.filename
    if status == 0 and fetched.is_file():
        return fetched
    lines = [line.strip() for line in output.tail if line.strip()]
    got = next((line.split()[-1] for line in lines if line.startswith("Got ")), None)
    if got is not None and any("DO NOT MATCH THE HASHES" in line for line in lines):
        raise EngineBuildError(_wrong_hash(sdist, got))
    if output.disk_full:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if any("No module named pip" in line for line in lines):
        raise EngineBuildError(
            f"The Python environment of {sys.executable} has no pip, which fetches the engine's source: "
            f"install it with `{sys.executable} -m ensurepip`."
        )
    # pip ends with "No matching distribution" also if it reached no index; the reason is in an earlier line.
    broken = [line for line in lines if "connection broken by" in line]
    words = [*broken[-1:], *lines[-1:]] or [f"exit status {status}, no output"]
    raise EngineBuildError(
        f"pip could not fetch {sdist.filename} from the package index: {' '.join(words)}. Check the network "
        f"and pip's settings (`pip config list`), or put the file into {scratch.parent / 'sdist'} yourself."
    )


def _wrong_hash(sdist: Sdist, got: str) -> str:
    return (
        f"The package index sent a {sdist.filename} with the wrong SHA-256: {got} instead of {sdist.sha256}. "
        "It was deleted and nothing of it was built. Run again; if it repeats, the index or a proxy on the "
        "way alters files."
    )

"""A source archive that the user supplies, for an engine newer than the pinned one: verified, then unpacked safely."""

from __future__ import annotations

import hashlib
import lzma
import re
import tarfile
import zlib
from pathlib import Path, PurePosixPath

from imagegen.engine_build.plan import Archive, EngineBuildError

MAX_FILES = 50_000
MAX_BYTES = 2_000_000_000
"""Limits on what is unpacked. The pinned source has 3,306 files and 168 MB."""
CHUNK_BYTES = 1 << 20

HEADERS = ("include/stable-diffusion.h", "stable-diffusion.h")
"""Beside its CMakeLists.txt, they identify stable-diffusion.cpp; the second is the place of older releases."""

_GGML_IS_A_FOLDER = re.compile(r"add_subdirectory\(\s*(?:\./)?ggml\s*\)", re.IGNORECASE)
_PACKAGE_VERSION = re.compile(
    r"^Name: stable[-_]diffusion[-_]cpp[-_]python$.*?^Version: (\S+)$", re.MULTILINE | re.DOTALL
)
_NAME_VERSION = re.compile(r"(?:^|[-_])(master-\d+(?:-[0-9a-f]{7,40})?|v?\d+(?:\.\d+)+)$")
_SUFFIX = re.compile(r"\.(tar\.\w+|tar|tgz|txz)$")


def parse_sha256(text: str) -> str:
    """A SHA-256 in lower case. Raises EngineBuildError."""
    digest = text.strip().lower()
    if re.fullmatch(r"[0-9a-f]{64}", digest) is None:
        raise EngineBuildError(f"--sha256 {text!r} is not a SHA-256: give its 64 hexadecimal digits.")
    return digest


def check(archive: Archive) -> None:
    """Raises EngineBuildError if the file cannot be read or has another SHA-256. Opens no archive."""
    try:
        with archive.path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise EngineBuildError(f"{archive.path} cannot be read: {error.strerror}.") from error
    if found != archive.sha256:
        raise EngineBuildError(
            f"{archive.path} has the SHA-256 {found}, and --sha256 says {archive.sha256}: it was not unpacked. Fetch "
            "it again, and take the checksum from where the archive is published."
        )


def unpack(archive: Archive, folder: Path) -> tuple[Path, str]:
    """Unpack into `folder`; return the source folder for CMake, and the version that the archive names or "unknown".

    Links, devices and paths that lead out of the folder are left out. Raises EngineBuildError, OSError.
    """
    try:
        with tarfile.open(archive.path, "r|*") as tar:
            _extract(tar, folder)
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, ValueError) as error:
        raise EngineBuildError(
            f"{archive.path} cannot be unpacked ({error}): it must be a tar archive, also compressed (gz, bz2, xz)."
        ) from error
    tree = _source_folder(folder)
    if tree is None:
        raise EngineBuildError(
            f"{archive.path} holds no source of stable-diffusion.cpp (a CMakeLists.txt beside stable-diffusion.h)."
        )
    lists = (tree / "CMakeLists.txt").read_text(errors="replace")
    if _GGML_IS_A_FOLDER.search(lists) and not (tree / "ggml" / "CMakeLists.txt").is_file():
        raise EngineBuildError(
            f"{archive.path} lacks ggml, a submodule that an archive of the repository leaves out: make one of a clone "
            "with submodules, or take the source archive of the package stable-diffusion-cpp-python."
        )
    return tree, _version(archive, folder)


def _extract(tar: tarfile.TarFile, folder: Path) -> None:
    """Write plain files and folders, and stop at the limits. Files are never executable, and new."""
    files = size = 0
    while (member := tar.next()) is not None:
        files, size = files + 1, size + member.size
        if files > MAX_FILES or size > MAX_BYTES:
            raise EngineBuildError(
                f"The archive has more than {MAX_FILES:,} files or {MAX_BYTES / 1e9:g} GB: it was not unpacked."
            )
        path = PurePosixPath(member.name)
        source = tar.extractfile(member) if member.isfile() else None
        if source is None or path.is_absolute() or ".." in path.parts:
            continue
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as out:
            while chunk := source.read(CHUNK_BYTES):
                out.write(chunk)


def _source_folder(folder: Path) -> Path | None:
    """The outermost folder with stable-diffusion.cpp's CMake file and header."""
    lists = sorted(folder.rglob("CMakeLists.txt"), key=lambda path: (len(path.parts), path))
    return next((one.parent for one in lists if any((one.parent / header).is_file() for header in HEADERS)), None)


def _version(archive: Archive, folder: Path) -> str:
    """The version in the package's metadata, else in the name of the archive's only folder or of the archive."""
    for info in folder.glob("*/PKG-INFO"):
        if (named := _PACKAGE_VERSION.search(info.read_text(errors="replace"))) is not None:
            return named[1]
    names = [path.name for path in folder.iterdir()]
    for name in (*(names if len(names) == 1 else ()), _SUFFIX.sub("", archive.path.name)):
        if (match := _NAME_VERSION.search(name)) is not None:
            return match[1].removeprefix("v")
    return "unknown"

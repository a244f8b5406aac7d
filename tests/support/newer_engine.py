"""Source archives as of another release of the engine: the pinned one, repacked with a version and texts changed."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

from imagegen.engine_build import Archive
from imagegen.engine_build.plan import PINNED, Sdist

Members = dict[str, bytes | tarfile.TarInfo]


def write(path: Path, members: Mapping[str, bytes | tarfile.TarInfo], mode: str = "w:gz") -> Archive:
    """A tar of files by name; a TarInfo is added as it is, without content."""
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return Archive(path, hashlib.sha256(path.read_bytes()).hexdigest())


def link(name: str, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


def repacked(
    sdist_path: Path,
    target: Path,
    *,
    sdist: Sdist = PINNED,
    version: str,
    change: Callable[[str, bytes], bytes] = lambda _name, content: content,
    only: Callable[[str], bool] = lambda _name: True,
) -> Archive:
    """The pinned archive with another version in its metadata, and in the engine's part what `change` makes of it."""
    root = f"{sdist.stem}/{sdist.source_dir}/"
    members: Members = {}
    with tarfile.open(sdist_path) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isfile() else None
            if file is None:
                continue
            if member.name == f"{sdist.stem}/PKG-INFO":
                members[member.name] = file.read().replace(
                    f"Version: {sdist.version}\n".encode(), f"Version: {version}\n".encode()
                )
            elif member.name.startswith(root) and only(member.name.removeprefix(root)):
                members[member.name] = change(member.name.removeprefix(root), file.read())
    return write(target, members, "w")

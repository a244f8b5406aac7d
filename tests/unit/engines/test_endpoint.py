"""Where an engine's socket is made, and what becomes of the folders of services that were killed."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagegen.engines import endpoint
from imagegen.engines.base import EngineError
from imagegen.engines.endpoint import MAX_PATH_BYTES, PREFIX, ListenerOwner, UnixEndpoint


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder with a path much shorter than a socket's may be, wherever pytest has its own."""
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture
def parents(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that are tried, best first."""
    folders: list[Path] = []
    monkeypatch.setattr(endpoint, "_parents", lambda _fallback: folders)
    return folders


def folder(base: Path, length: int) -> Path:
    """A folder whose own path, with the longest name of a socket in it, has `length` bytes."""
    name = "x" * (length - len(os.fsencode(base)) - 1 - len(f"/{PREFIX}12345678/s"))
    made = base / name
    made.mkdir()
    return made


def test_the_first_folder_that_is_short_enough_is_used(parents: list[Path], tmp_path: Path) -> None:
    longest = folder(tmp_path, MAX_PATH_BYTES)
    parents += [folder(tmp_path, MAX_PATH_BYTES + 1), tmp_path / "is not there", longest]
    one = UnixEndpoint(tmp_path)
    assert one.path.parent.parent == longest and len(os.fsencode(one.path)) == MAX_PATH_BYTES
    assert one.path.parent.stat().st_mode & 0o777 == 0o700
    with socket.socket(socket.AF_UNIX) as engine:
        engine.bind(str(one.path))
        assert one.listener(os.getpid()) is ListenerOwner.NONE
        engine.listen()
        assert one.listener(os.getpid()) is ListenerOwner.ENGINE
        assert one.listener(os.getppid()) is not ListenerOwner.ENGINE
    one.close()
    one.close()
    assert list(longest.iterdir()) == []


def test_where_no_folder_serves_the_reason_is_given(parents: list[Path], tmp_path: Path) -> None:
    parents.append(folder(tmp_path, MAX_PATH_BYTES + 1))
    with pytest.raises(EngineError, match="set TMPDIR"):
        UnixEndpoint(tmp_path)
    parents.append(Path("/is not there"))
    with pytest.raises(FileNotFoundError):
        UnixEndpoint(tmp_path)


def test_the_temporary_folder_is_tried_before_the_runtime_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1")
    monkeypatch.setattr("tempfile.tempdir", "/var/tmp")
    assert endpoint._parents(tmp_path) == [Path("/var/tmp"), Path("/run/user/1"), Path("/tmp"), tmp_path]


def test_only_folders_of_services_that_are_gone_are_removed(parents: list[Path], tmp_path: Path) -> None:
    parents.append(tmp_path)
    live = UnixEndpoint(tmp_path)
    killed = UnixEndpoint(tmp_path)
    killed.path.touch()
    os.close(killed._lock)  # as the kernel does when the service ends
    (tmp_path / "something else").mkdir()
    other = UnixEndpoint(tmp_path)
    assert live.path.parent.exists() and other.path.parent.exists() and not killed.path.parent.exists()
    assert (tmp_path / "something else").exists()
    killed._lock = -1
    for one in (live, other):
        one.close()

"""The state folder is its user's alone: whatever the umask, and after an upgrade."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from served import Service
from state_folder import opened, scenario

from imagegen.http.routes.session import Sessions
from imagegen.models.synthetic import make as synthetic
from imagegen.security import tls
from imagegen.security.tokens import Tokens, new
from imagegen.settings import Settings
from imagegen.storage import permissions
from imagegen.storage.database import lock_state_folder, open_database

UMASKS = [0o000, 0o022, 0o077, 0o177]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def modes(home: Path) -> dict[str, int]:
    """Mode of each file and folder that is no symbolic link, by its path; the state folder itself is '.'."""
    found = [path for path in (home, *home.rglob("*")) if not path.is_symlink()]
    return {str(path.relative_to(home)): mode(path) for path in found}


def wrong(home: Path) -> dict[str, str]:
    """Folders that are not 0700 and files that are not 0600."""
    found = modes(home).items()
    return {name: oct(mode) for name, mode in found if mode != (0o700 if (home / name).is_dir() else 0o600)}


@contextlib.contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize("mask", UMASKS, ids=oct)
def test_all_that_the_service_keeps_is_private_under_any_umask(tmp_path: Path, mask: int) -> None:
    home = tmp_path / "above" / "home"
    settings = Settings(home=home, tls="auto")

    @scenario
    async def use(folder: Path) -> None:
        async with opened(folder / "above" / "home") as state:
            await state.draw(await state.submit())
            assert (home / "jobs.sqlite3-wal").stat().st_size > 0
            assert wrong(home) == {}

    with umask(mask):
        new("anna", settings.tokens_file)
        assert tls.files_of(settings) is not None
        sessions = Sessions(Tokens({"anna": b"x"}), home / "session.key")
        sessions.cookie(sessions.begin("anna"))
        lock_state_folder(home).close()
        use(tmp_path)
    assert mode(home.parent) == 0o700, "a folder above that was missing"
    assert {"tokens", "session.key", "lock", "jobs.sqlite3", "tls/key.pem", "tls/cert.pem"} <= modes(home).keys()
    assert wrong(home) == {}


def test_a_model_that_is_made_is_private(tmp_path: Path) -> None:
    with umask(permissions.UMASK):
        synthetic.make("tiny", Settings(home=tmp_path / "home"))
    assert wrong(tmp_path / "home") == {}


def test_a_state_folder_of_an_older_version_is_closed_at_the_start(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with umask(0o022):
        for folder in ("images", "tls", "models/tiny", "engine/loras"):
            (home / folder).mkdir(parents=True)
        kept = ("jobs.sqlite3", "jobs.sqlite3-wal", "jobs.sqlite3-shm", "jobs.sqlite3.backup", "lock", "tokens")
        for name in (*kept, "images/a.png", "tls/cert.pem", "models/tiny/a.gguf"):
            (home / name).touch(mode=0o666)
        (home / "engine" / "program").touch(mode=0o755)
        outside = tmp_path / "outside"
        outside.touch()
        (home / "models" / "linked").symlink_to(outside)
        (home / "notes.txt").touch()
    assert mode(home) == 0o755
    lock_state_folder(home).close()
    assert wrong(home) == {"engine/program": oct(0o700), "notes.txt": oct(0o644)}
    assert mode(outside) == 0o644, "symbolic links are not followed"


def test_a_shared_folder_keeps_its_own_mode_and_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tmp_path.chmod(0o1777)
    (tmp_path / "jobs.sqlite3").touch()
    (tmp_path / "jobs.sqlite3").chmod(0o644)
    lock_state_folder(tmp_path).close()
    assert mode(tmp_path) == 0o1777
    assert mode(tmp_path / "jobs.sqlite3") == 0o600
    assert "others can use 1 files or folders" in caplog.text


def test_what_cannot_be_closed_is_returned_and_the_start_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "tokens").touch(mode=0o644)
    chmod = Path.chmod

    def of_another_user(path: Path, mode: int) -> None:
        if path == tmp_path / "tokens":
            raise PermissionError(1, "Operation not permitted")
        chmod(path, mode)

    monkeypatch.setattr(Path, "chmod", of_another_user)
    assert permissions.restrict(tmp_path) == [tmp_path / "tokens"]
    lock_state_folder(tmp_path).close()
    assert mode(tmp_path) == 0o700


def test_the_running_service_leaves_nothing_open_to_others(home: Path, sd_server: Path) -> None:
    home.chmod(0o755)
    (home / "models").chmod(0o755)
    service = Service(home, sd_server, {"idle_timeout": "never"})
    with umask(0o000):
        service.start()
    try:
        service.draw()
        assert wrong(home) == {}
        for pid in (service.worker.pid, service.engine_pid):
            assert "Umask:\t0077" in Path(f"/proc/{pid}/status").read_text(), "proc(5)"
    finally:
        service.end()
    assert wrong(home) == {}


def test_the_database_is_private_without_the_lock_too(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite3"
    path.touch()
    path.chmod(0o664)
    tmp_path.chmod(0o700)

    async def run() -> None:
        database = await open_database(path)
        assert wrong(tmp_path) == {}
        await database.close()

    asyncio.run(run())

"""Saved pictures: where, under which name, and all or nothing."""

import errno
import os
from pathlib import Path

import pytest

from mcp_front import saving
from mcp_front.saving import NotSaved, file_name, save

ID = "0123456789abcdef0123456789abcdef"


def test_a_name_is_readable_and_carries_the_id():
    name = file_name("A whiteboard diagram: the Queue's life!", ID, "2026-11-05T14:03:22Z")
    assert name.endswith("_a-whiteboard-diagram-the-queue-s-life_456789abcdef.png")
    assert name.startswith("2026-11-0")
    assert file_name("A whiteboard diagram: the Queue's life!", ID, "2026-11-05T14:03:22Z") == name


@pytest.mark.parametrize(
    "prompt", ["../../etc/passwd", 'a/b\\c:d*e?f"g<h>i|j', "\0\n\r", "", "💥", "x" * 4000, "été 東京"]
)
def test_no_prompt_makes_a_name_that_a_disk_refuses(tmp_path, prompt):
    name = file_name(prompt, ID, None)
    assert Path(name).name == name and not set(name) & set('/\\:*?"<>|\0\n') and len(name.encode()) < 255
    assert save(b"png", name, tmp_path).read_bytes() == b"png"


def test_the_chosen_folder_is_made_and_used(tmp_path):
    folder = tmp_path / "mit Leerzeichen" / "Bilder ü"
    assert save(b"png", "a.png", folder) == folder / "a.png"


def test_fetching_again_makes_no_second_file_and_never_overwrites_another(tmp_path):
    first = save(b"png", "a.png", tmp_path)
    assert save(b"png", "a.png", tmp_path) == first
    first.write_bytes(b"retouched by the person")
    second = save(b"png", "a.png", tmp_path)
    assert second == tmp_path / "a-2.png" and first.read_bytes() == b"retouched by the person"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a-2.png", "a.png"]


def test_without_a_choice_it_is_pictures_then_the_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert save(b"png", "a.png", None) == tmp_path / "Pictures" / "imagegen" / "a.png"
    (tmp_path / "blocked").write_text("not a folder")
    monkeypatch.setenv("HOME", str(tmp_path / "blocked"))
    name = f"test-{os.getpid()}.png"
    saved = save(b"png", name, None)
    try:
        assert saved == Path(f"/tmp/imagegen-{os.getuid()}") / name
        assert saved.parent.stat().st_mode & 0o077 == 0
    finally:
        saved.unlink()


def test_a_chosen_folder_is_not_silently_replaced(tmp_path):
    blocked = tmp_path / "blocked"
    blocked.write_text("not a folder")
    with pytest.raises(NotSaved) as failed:
        save(b"png", "a.png", blocked)
    assert str(blocked) in str(failed.value) and "IMAGEGEN_OUTPUT_DIR" in str(failed.value)


def test_a_folder_that_is_not_writable_is_named():
    with pytest.raises(NotSaved, match=r"/proc/imagegen"):
        save(b"png", "a.png", Path("/proc/imagegen"))


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(_descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(saving.os, "fsync", full)
    with pytest.raises(NotSaved, match="no space left"):
        save(b"png", "a.png", tmp_path)
    assert list(tmp_path.iterdir()) == []

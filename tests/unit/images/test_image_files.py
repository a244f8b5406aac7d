"""The folder of pictures: whole files or none, no path out of it, and the disk's refusals in sentences."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagegen.images.files import ImageFiles, new_id
from imagegen.storage.errors import CorruptImage, StorageError, StorageFull

A, B, C = "a" * 32, "b" * 32, "c" * 32


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "state" / "images"


@pytest.fixture
def files(folder) -> ImageFiles:
    return ImageFiles(folder)


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_what_is_written_is_read_and_verified_and_deleted(files, folder):
    files.write(A, b"one")
    assert files.read(A) == files.verify(A, hashlib.sha256(b"one").hexdigest()) == b"one"
    assert files.path(A) == folder / f"{A}.png"
    assert names(folder) == [f"{A}.png"]
    assert files.delete(A) is True
    assert files.delete(A) is False
    assert names(folder) == []


def test_a_second_write_replaces_the_first(files):
    files.write(A, b"one")
    files.write(A, b"two")
    assert files.read(A) == b"two"


def test_the_pictures_are_for_this_user_alone(files, folder):
    files.write(A, b"one")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(files.path(A).stat().st_mode) == 0o600


def test_an_existing_folder_is_used(folder):
    ImageFiles(folder).write(A, b"one")
    assert ImageFiles(folder).read(A) == b"one"


def test_ids_are_new_each_time_and_acceptable(files):
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    for image_id in ids:
        files.path(image_id)


NOT_IDS = [
    "",
    "a" * 31,
    "a" * 33,
    "A" * 32,
    "g" * 32,
    "a" * 32 + "\n",
    "a" * 31 + "\0",
    "../" + "a" * 29,
    "/etc/passwd",
    ".",
    "a" * 28 + ".png",
    "ａ" * 32,
    "١" * 32,
]


@pytest.mark.parametrize("image_id", NOT_IDS)
def test_no_method_takes_anything_but_an_id(files, folder, image_id):
    for call in (
        files.path,
        files.read,
        files.delete,
        lambda i: files.write(i, b"x"),
        lambda i: files.verify(i, ""),
    ):
        with pytest.raises(ValueError, match="32 lowercase"):
            call(image_id)
    assert names(folder) == []


@given(st.text(max_size=40).filter(lambda text: not re.fullmatch("[0-9a-f]{32}", text)))
def test_no_text_escapes(text):
    with pytest.raises(ValueError, match="32 lowercase"):
        ImageFiles(Path()).path(text)


def test_a_missing_picture_is_missing(files):
    with pytest.raises(FileNotFoundError):
        files.read(A)
    with pytest.raises(FileNotFoundError):
        files.verify(A, "")


@pytest.mark.parametrize("damage", [b"", b"on", b"onE", b"one!"])
def test_a_damaged_picture_is_told_and_not_served(files, damage):
    files.write(A, b"one")
    files.path(A).write_bytes(damage)
    with pytest.raises(CorruptImage, match="damaged") as caught:
        files.verify(A, hashlib.sha256(b"one").hexdigest())
    assert caught.value.code == "storage_error"


# ---- sweeping and counting --------------------------------------------------------------------------------


def test_orphans_go_and_everything_else_stays(files, folder):
    for image_id in (A, B, C):
        files.write(image_id, b"x")
    (folder / f".{A}.0123abcd.tmp").write_bytes(b"half")
    strangers = ["notes.txt", f"{A}.jpg", "A" * 32 + ".png", ".hidden", f".{A}.tmp"]
    for name in strangers:
        (folder / name).write_bytes(b"somebody else's")
    assert files.orphans({B}) == 3
    assert names(folder) == sorted([f"{B}.png", *strangers])
    assert files.orphans({B}) == 0


def test_young_orphans_stay_while_the_service_runs(files):
    files.write(A, b"x")
    files.write(B, b"x")
    os.utime(files.path(A), (1000, 1000))
    os.utime(files.path(B), (1500, 1500))
    assert files.orphans(set(), min_age_s=600, now=lambda: 1600) == 1
    assert files.read(B) == b"x"


def test_a_symbolic_link_is_swept_and_not_what_it_points_to(files, folder, tmp_path):
    treasure = tmp_path / "treasure"
    treasure.write_bytes(b"gold")
    (folder / f"{A}.png").symlink_to(treasure)
    (folder / f"{B}.png").symlink_to(tmp_path / "nowhere")
    assert files.orphans(set()) == 2
    assert names(folder) == []
    assert treasure.read_bytes() == b"gold"


def test_bytes_stored_counts_pictures_alone(files, folder):
    assert files.bytes_stored() == 0
    files.write(A, b"123")
    files.write(B, b"4567")
    (folder / f".{A}.0123abcd.tmp").write_bytes(b"half a picture")
    (folder / "notes.txt").write_bytes(b"not a picture")
    assert files.bytes_stored() == 7
    files.delete(A)
    assert files.bytes_stored() == 4


# ---- crashes and refusals of the disk ---------------------------------------------------------------------

CHILD = """
import os, resource, sys
from pathlib import Path
from imagegen.images.files import ImageFiles
from imagegen.storage.errors import StorageFull
files = ImageFiles(Path(sys.argv[1]))
"""


def in_a_process(folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CHILD + program, str(folder)], capture_output=True, text=True, timeout=60, check=False
    )


def test_the_file_and_then_its_name_are_forced_to_the_disk(files, folder, monkeypatch):
    forced, fsync = [], os.fsync

    def watching(descriptor: int) -> None:
        fsync(descriptor)
        forced.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), names(folder) == [f"{A}.png"]))

    monkeypatch.setattr(os, "fsync", watching)
    files.write(A, b"one")
    assert forced == [(False, False), (True, True)]  # a temporary file; the folder, once the name is there


def test_a_process_that_dies_while_writing_leaves_no_half_picture(files, folder):
    files.write(A, b"the old one")
    died = in_a_process(folder, f"os.fsync = lambda fd: os._exit(9)\nfiles.write({A!r}, b'the new one' * 9999)")
    assert died.returncode == 9, died.stderr
    assert len(names(folder)) == 2  # a temporary file was left
    assert files.read(A) == b"the old one"
    assert files.orphans({A}) == 1
    assert names(folder) == [f"{A}.png"]


def test_a_write_that_fails_half_way_is_storage_full_and_leaves_nothing(files, folder):
    """The kernel refuses what goes over 64 KiB, after having taken the first part."""
    files.write(A, b"the old one")
    program = f"""
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
try:
    files.write({A!r}, bytes(1_000_000))
except StorageFull as full:
    print(full.code, full)
files.write({B!r}, b"fits")
"""
    done = in_a_process(folder, program)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("storage_full The picture is larger than this process may write")
    assert files.read(A) == b"the old one"
    assert names(folder) == [f"{A}.png", f"{B}.png"]


@pytest.mark.parametrize(
    ("number", "error", "word"),
    [
        (errno.ENOSPC, StorageFull, "full"),
        (errno.EDQUOT, StorageFull, "quota"),
        (errno.EROFS, StorageError, "read-only"),
        (errno.EACCES, StorageError, "rights"),
        (errno.EPERM, StorageError, "rights"),
        (errno.EIO, StorageError, "input/output"),
        (errno.ENODEV, StorageError, os.strerror(errno.ENODEV)),
    ],
)
def test_what_the_disk_says_becomes_a_sentence(files, folder, monkeypatch, number, error, word):
    """Disks that fail in these ways cannot be had in a test, so fsync speaks for them."""

    def refusing(descriptor: int) -> None:
        raise OSError(number, os.strerror(number), "/a/path/of/the/host")

    monkeypatch.setattr(os, "fsync", refusing)
    with pytest.raises(StorageError, match=word) as caught:
        files.write(A, b"one")
    assert type(caught.value) is error
    assert caught.value.code == ("storage_full" if error is StorageFull else "storage_error")
    assert str(caught.value).endswith(".")
    assert "/a/path" not in str(caught.value)
    assert isinstance(caught.value.__cause__, OSError)  # for the log
    assert names(folder) == []


def test_a_folder_that_was_removed_is_told(files, folder):
    folder.rmdir()
    for call in (lambda: files.write(A, b"one"), lambda: files.orphans(set()), files.bytes_stored):
        with pytest.raises(StorageError, match="folder was removed"):
            call()


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot be used"):
        ImageFiles(tmp_path / "file" / "images")


# ---- several at once --------------------------------------------------------------------------------------


def test_a_reader_sees_one_whole_picture_or_the_other(files):
    old, new = b"o" * 200_000, b"n" * 300_000
    files.write(A, old)
    done = threading.Event()
    seen: set[bytes] = set()

    def reading() -> None:
        while not done.is_set():
            seen.add(files.read(A))
        seen.add(files.read(A))

    reader = threading.Thread(target=reading)
    reader.start()
    for i in range(40):
        files.write(A, new if i % 2 == 0 else old)
    done.set()
    reader.join(30)
    assert seen <= {old, new}
    assert seen


def test_many_writers_do_not_disturb_each_other(files, folder):
    ids = [new_id() for _ in range(8)]
    writers = [threading.Thread(target=files.write, args=(i, i.encode() * 1000)) for i in [*ids, *ids]]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(30)
    assert names(folder) == sorted(f"{image_id}.png" for image_id in ids)
    assert all(files.read(image_id) == image_id.encode() * 1000 for image_id in ids)

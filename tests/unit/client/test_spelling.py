"""The command line and the MCP front find the same file for a name that is spelled otherwise."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from imagegen_client import spelling
from mcp_front.paths import BadReference, local_path

SCREENSHOT = "Screenshot 2026-01-02 at 3.45.12\u202fPM.png"
FINDERS = [spelling.existing, local_path]
Finder = Callable[[str], Path]


@pytest.mark.parametrize("find", FINDERS, ids=["command line", "front"])
@pytest.mark.parametrize(
    ("name", "typed"),
    [
        ("a b.png", "{folder}/a b.png"),
        (SCREENSHOT, "{folder}/Screenshot 2026-01-02 at 3.45.12 PM.png"),
        ("a b.png", "{folder}/a\u00a0b.png"),
        ("a\u2009b.png", "{folder}/a b.png"),
        (unicodedata.normalize("NFD", "é.png"), "{folder}/é.png"),
        ("é.png", "{folder}/" + unicodedata.normalize("NFD", "é.png")),
        ("a b.png", "'{folder}/a b.png'"),
        ("a b.png", ' "{folder}/a b.png" '),
        ("a b.png", "\u201c{folder}/a b.png\u201d"),
        (SCREENSHOT, "'{folder}/Screenshot 2026-01-02 at 3.45.12 PM.png'"),
        ("a b.png", "{folder}/a\\ b.png"),
        ("it's (1).png", "{folder}/it\\'s\\ \\(1\\).png"),
        ("it\u2019s.png", "{folder}/it's.png"),
        ("my\u202ffolder/a\u202fb.png", "{folder}/my folder/a b.png"),
        ("my\u202ffolder/a b.png", "{folder}/my folder/a\u00a0b.png"),
        ("a%20b.png", "{folder}/a%20b.png"),
    ],
)
def test_the_one_entry_that_is_spelled_alike_is_found(tmp_path: Path, find: Finder, name: str, typed: str) -> None:
    wanted = tmp_path / name
    wanted.parent.mkdir(exist_ok=True)
    wanted.touch()
    (tmp_path / "other.png").touch()
    assert find(typed.format(folder=tmp_path)) == wanted


@pytest.mark.parametrize("find", FINDERS, ids=["command line", "front"])
def test_a_name_that_exists_wins_and_several_others_are_named(tmp_path: Path, find: Finder) -> None:
    names = ["a\u202fb.png", "a\u00a0b.png"]
    for name in names:
        (tmp_path / name).touch()
    for name in names:
        assert find(f"{tmp_path}/{name}") == tmp_path / name
    with pytest.raises((spelling.Ambiguous, BadReference)) as several:
        find(f"{tmp_path}/a b.png")
    assert all(ascii(name) in str(several.value) for name in names)
    assert "2 names in that folder are written nearly the same" in str(several.value)


@pytest.mark.parametrize("find", FINDERS, ids=["command line", "front"])
@pytest.mark.parametrize("typed", ["c.png", "a.PNG", "A b.png", "ab.png", "a-b.png", "missing/a b.png"])
def test_another_name_is_not_found(tmp_path: Path, find: Finder, typed: str) -> None:
    (tmp_path / "a b.png").touch()
    assert find(f"{tmp_path}/{typed}") == tmp_path / typed


def test_a_path_in_this_folder_and_the_home_folder_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / SCREENSHOT).touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    asked = SCREENSHOT.replace("\u202f", " ")
    assert spelling.existing(asked) == Path(SCREENSHOT)
    assert spelling.existing(f"'~/{asked}'") == tmp_path / SCREENSHOT
    assert spelling.existing("~nobody-of-this-name/x.png") == Path("~nobody-of-this-name/x.png")

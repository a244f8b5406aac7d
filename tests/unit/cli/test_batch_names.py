"""Names of a batch's pictures, and what remembers them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis.strategies import text

from imagegen.cli.batch_names import DEFAULT, SAMPLE, BadPattern, Pattern, slug, unused
from imagegen.cli.batch_state import BatchState
from imagegen.cli.errors import ServiceError


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        (DEFAULT, "007-a-cat-asleep-9.png"),
        ("out/{model}/{line}-{i}.webp", "out/tiny/8-2.webp"),
        ("{seed:12}.jpg", "           9.jpg"),
        ("{{{n}}}.png", "{7}.png"),
    ],
)
def test_a_pattern_names_files(pattern: str, name: str) -> None:
    values = SAMPLE | {"n": 7, "line": 8, "i": 2, "slug": slug("A cat, asleep!"), "seed": 9}
    assert Pattern.of(pattern).name(values) == Path(name)


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("{number}.png", "{number} is no field"),
        ("{}.png", "{} is no field"),
        ("{n.__class__}.png", "is no field"),
        ("{n[0]}.png", "is no field"),
        ("{n!r}.png", "only a width"),
        ("{n:999999999}.png", "only a width"),
        ("{n:{seed}}.png", "only a width"),
        ("{n.png", "brace"),
        ("{n}.gif", "must end in"),
        ("{n}", "must end in"),
        ("out/", "names a folder"),
        ("", "names a folder"),
    ],
)
def test_a_bad_pattern_is_a_sentence(pattern: str, said: str) -> None:
    with pytest.raises(BadPattern, match=r"\.$") as wrong:
        Pattern.of(pattern)
    assert said in str(wrong.value)


@given(text(), text())
def test_no_value_leaves_the_folder(prompt: str, model: str) -> None:
    values = SAMPLE | {"slug": slug(prompt), "model": model}
    name = Pattern.of("out/{slug}{model}.png").name(values)
    assert (name.parent, name.name[:1] != ".", "\0" in str(name)) == (Path("out"), True, False)


def test_a_name_that_is_taken_gets_a_number(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    assert unused(tmp_path / "a.png", {tmp_path / "a-2.png"}) == tmp_path / "a-3.png"
    assert unused(tmp_path / "b.png", set()) == tmp_path / "b.png"


def test_a_state_is_read_again_also_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "new" / "p.txt.batch"
    with BatchState(path) as state:
        first = state.id
        state.note_job("a", 1, "j")
        state.note_files("a", ["a.png"])
        state.note_done("a")
        state.note_job("b", 0, "k")
    with path.open("ab") as file:
        file.write(b'{"done": tr')
    with BatchState(path) as state:
        assert (state.id, state.of("a").done, state.of("a").files) == (first, True, ["a.png"])
        assert (state.of("b").job_id, state.of("b").done, state.of("c").job_id) == ("k", False, None)
        with pytest.raises(ServiceError, match="in use"):
            BatchState(path)
        state.note_done("b")
    with BatchState(path) as state:
        assert state.of("b").done
    with BatchState(path, anew=True) as state:
        assert (state.id != first, state.known) == (True, {})


@pytest.mark.parametrize("data", [b"my notes", b"my notes\n", b'{"a": 1}\n', b"[1]\n", b'{"key": 1, "job": 2}\n'])
def test_another_file_is_not_touched(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "p.txt.batch"
    path.write_bytes(data)
    for anew in (False, True):
        with pytest.raises(ServiceError, match="is no state of a batch"):
            BatchState(path, anew)
    assert path.read_bytes() == data


@pytest.mark.parametrize("begun", [b"", b'{"bat', b'{"batch": "5fce'])
def test_a_state_whose_first_line_was_cut_off_begins_anew(tmp_path: Path, begun: bytes) -> None:
    path = tmp_path / "p.txt.batch"
    path.write_bytes(begun)
    with BatchState(path) as state:
        assert state.known == {}
        state.note_job("a", 0, "j")
    with BatchState(path) as state:
        assert state.of("a").job_id == "j"


def test_a_state_without_a_job_leaves_nothing(tmp_path: Path) -> None:
    with BatchState(tmp_path / "new" / "p.txt.batch"):
        pass
    assert list(tmp_path.iterdir()) == []

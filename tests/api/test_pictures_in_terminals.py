"""Commands that show pictures in a terminal, on the running service: in which terminals, and what of it remains."""

from __future__ import annotations

from pathlib import Path

import pytest
from served import Service, until
from terminals import IMAGEGEN, STARTS, Terminal

SMALL = "-W 64 -H 64 --steps 2 --seed 1 -o a.png"
THEN_READ = "; code=$?; IFS= read -r -t 0.2 -N 99 left; printf 'LEFT[%q]' \"$left\"; exit $code"


def shown_in(terminal: Terminal) -> dict[str, int]:
    """How many pictures were sent, by protocol."""
    return {protocol: count for protocol, start in STARTS.items() if (count := terminal.written.count(start))}


@pytest.mark.parametrize(
    ("kind", "words", "shown"),
    [
        ("sixel", SMALL, {"sixel"}),
        ("plain", f"{SMALL} --show", {"blocks"}),
        ("kitty", f"{SMALL} --show > said", set()),
    ],
    ids=lambda value: value.removeprefix(SMALL).strip() if isinstance(value, str) else "",
)
def test_a_drawn_picture_is_shown_where_it_can(
    service: Service, tmp_path: Path, kind: str, words: str, shown: set[str]
) -> None:
    draws = f"{IMAGEGEN} draw 'a red circle' --url {service.url} {words}"
    terminal = Terminal(["bash", "-c", draws + THEN_READ], kind, cwd=tmp_path)
    assert terminal.end() == 0, terminal.written
    assert set(shown_in(terminal)) == shown
    assert terminal.written.endswith(b"LEFT['']"), "nothing is left for the shell to read"
    assert (b"\x1b[c" in terminal.written) == (">" not in words)
    if shown:
        said, _, after = terminal.written.rpartition(b"a.png  64x64  seed 1")
        assert said and STARTS[shown.pop()] in after, "below the line that names its file"


def test_previews_are_shown_while_it_draws_and_removed(service: Service, tmp_path: Path) -> None:
    draws = f"{IMAGEGEN} draw 'a long one' -W 256 -H 256 --steps 100 -n 4 -o a.png --url {service.url}"
    terminal = Terminal(["bash", "-c", draws + THEN_READ], "kitty", cwd=tmp_path)
    terminal.until(lambda: "kitty" in shown_in(terminal), "a preview is shown")
    terminal.type(b"\x03")
    assert terminal.end() != 0
    removed = terminal.written.rpartition(b"\x1b_Ga=d,d=I,i=")[2]
    assert b"\x1b[J" in removed and STARTS["kitty"] not in removed
    job = service.http.get("/api/jobs", params={"limit": 1}).json()["items"][0]
    assert job["prompt"] == "a long one"
    until(lambda: service.job(job["job_id"])["status"] == "cancelled", "Ctrl-C cancels it")
    assert list(tmp_path.iterdir()) == []

"""`imagegen watch`: what it shows, in which order, and in how little room; a full screen that leaves nothing behind."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from typing import Any

import pytest
from PIL import Image
from rich.console import Console
from served import ROOT

from imagegen.cli.terminal.abilities import Protocol
from imagegen.cli.terminal.pictures import Painter
from imagegen.cli.terminal.screen import Screen
from imagegen.cli.watch_view import Reading, listed, rows_of
from imagegen_client.answers import JobState, Progress, Said

URL = "http://127.0.0.1:8765"
STATUS = [
    "model   tiny",
    "engine  drawing since 2026-01-01T00:00:00Z",
    "queue   1 running, 2 waiting",
    "gpu     none found",
]


def job(name: str, status: Any, **more: Any) -> JobState:
    return JobState(name * 32, status, model="tiny", prompt=f"prompt of {name}", **more)


JOBS = [
    job("e", "queued", position=2),
    job("d", "queued", position=1),
    job("c", "running", progress=Progress("sampling", step=3, steps=9)),
    *(job(name, "complete") for name in "1234567"),
    job("f", "failed", error=Said("out_of_vram", "No memory.")),
]


def shown(reading: Reading, columns: int, rows: int) -> list[str]:
    console = Console(file=io.StringIO(), width=columns, height=rows, force_terminal=True, color_system="standard")
    found = rows_of(reading, URL, console, (columns, rows))
    return [re.sub(r"\x1b\[[0-9;]*m", "", row).rstrip() for row in found]


def test_jobs_are_listed_by_their_turn_then_the_newest_that_ended() -> None:
    assert "".join(one.job_id[0] for one in listed(JOBS)) == "cde12345"
    assert "".join(one.job_id[0] for one in listed(JOBS[-2:])) == "7f"


def test_a_wide_screen_has_the_state_the_queue_and_how_to_end_it() -> None:
    rows = shown(Reading("0.1.0", STATUS, JOBS[:3]), 100, 20)
    assert rows[:5] == [f"imagegen 0.1.0  {URL}", *STATUS]
    assert re.match(r"cccccccc  [━╸╺]+  drawing: step 3/9 +prompt of c$", rows[6])
    assert re.match(r"dddddddd  tiny +waiting in the queue, 1 ahead of it +prompt of d$", rows[7])
    assert (len(rows), rows[-1]) == (20, "q ends")


@pytest.mark.parametrize(("columns", "rows"), [(100, 12), (40, 12), (20, 8), (9, 4), (3, 2), (1, 1)])
def test_every_row_fits_the_terminal(columns: int, rows: int) -> None:
    found = shown(Reading("0.1.0", STATUS, JOBS, trouble="no service answers"), columns, rows)
    assert len(found) == rows
    assert all(len(row) <= columns for row in found[:-1])


def test_jobs_without_room_are_counted() -> None:
    rows = shown(Reading("0.1.0", STATUS, JOBS), 100, 10)
    assert rows[6].startswith("cccccccc")
    assert rows[7:] == ["and 7 more", "", "q ends"], f"of {len(listed(JOBS))}"


def test_a_prompt_cannot_control_the_terminal() -> None:
    odd = JobState("a" * 32, "failed", prompt="\x1b]0;title\x07[red]x\n\x9b31m", error=Said("co\x1bde", ""))
    console = Console(file=io.StringIO(), width=100, height=20, force_terminal=True, color_system="standard")
    rows = rows_of(Reading("0.1.0", ["warning \x1b[2J"], [odd]), URL, console, (100, 20))
    left = re.sub(r"\x1b\[[0-9;]*m", "", "".join(rows))
    assert "\x1b" not in left and "\x07" not in left and "\x9b" not in left
    assert "[red]x" in left, "and is no markup"


def test_an_outage_is_said_and_the_last_state_stays() -> None:
    rows = shown(Reading("0.1.0", STATUS, JOBS, trouble="no service answers at X."), 100, 20)
    assert rows[1] == "Waiting for the service: no service answers at X."
    assert rows[2:6] == STATUS


def test_only_rows_that_changed_are_written() -> None:
    stream = io.StringIO()
    screen = Screen(0, stream, Painter(Protocol.SIXEL, (10, 20)))
    screen.size = lambda: (20, 6)  # type: ignore[method-assign]
    drawing = Painter(Protocol.SIXEL, (10, 20)).draw(Image.new("RGB", (20, 20)), (10, 2))

    def written(rows: list[str], picture: Any) -> str:
        stream.seek(0)
        stream.truncate()
        screen.show(rows, picture)
        return stream.getvalue()

    assert "\x1b[2J" in written(["a", "b"], None)
    assert written(["a", "b"], None) == ""
    assert written(["a", "c"], None) == "\x1b[2;1Hc\x1b[0m\x1b[K"
    assert drawing.text in written(["a", "c"], (3, drawing))
    assert written(["d", "c"], (3, drawing)) == "\x1b[1;1Hd\x1b[0m\x1b[K", "the picture stays"
    assert "\x1b[2J" in written(["d", "c"], None), "a picture that has gone is erased"


def test_without_a_terminal_it_says_so_and_ends_with_2() -> None:
    command = [sys.executable, "-m", "imagegen.cli", "watch", "--url", "http://127.0.0.1:9"]
    ran = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == "imagegen: `imagegen watch` needs a terminal; `imagegen status --json` is for scripts.\n"

"""Pictures in a terminal: what it is asked, what is left of its answers, and what is sent to it."""

from __future__ import annotations

import base64
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from served import ROOT
from terminals import ANSWERS, ATTRIBUTES, KITTY, STARTS, Terminal

from imagegen.cli.terminal import abilities
from imagegen.cli.terminal.abilities import Protocol, questions_for, understood
from imagegen.cli.terminal.pictures import CHUNK_BYTES, Painter

ASK = "from imagegen.cli.terminal import abilities as a; a.ANSWER_S = {wait}; print('FOUND', a.abilities(2))"
ASKS = f'"{sys.executable}" -c "{ASK.format(wait=120)}"'
THEN_READ = "; IFS= read -r -t 0.2 -N 99 left; printf 'LEFT[%q]\\n' \"$left\""


def asked(kind: str, *, script: str = ASKS, keys: bytes = b"", **more: str) -> str:
    """What a shell prints that runs `script` in a terminal of this kind, then reads what is left of its input."""
    start = "read -r -n 1 -s go; " if keys else ""
    terminal = Terminal(["bash", "-c", start + script + THEN_READ], kind, **more)
    if keys:
        terminal.type(b"g" + keys)
    assert terminal.end() == 0
    return terminal.written.decode()


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("kitty", "Abilities(protocol=<Protocol.KITTY: 'kitty'>, cell_px=(9, 18))"),
        ("iterm2", "Abilities(protocol=<Protocol.ITERM2: 'iterm2'>, cell_px=(10, 20))"),
        ("sixel", "Abilities(protocol=<Protocol.SIXEL: 'sixel'>, cell_px=(9, 18))"),
        ("plain", "Abilities(protocol=None, cell_px=(10, 20))"),
        ("silent", "Abilities(protocol=None, cell_px=(10, 20))"),
    ],
)
def test_a_terminal_says_what_it_shows_and_no_answer_is_left(kind: str, found: str) -> None:
    printed = asked(kind, script=ASKS.replace("120", "0.2") if kind == "silent" else ASKS)
    assert f"FOUND {found}" in printed
    assert "LEFT['']" in printed


def test_keys_typed_ahead_are_left_for_the_script_that_reads_them() -> None:
    printed = asked("silent", keys=b"yes\r")
    assert "protocol=None" in printed
    assert "LEFT[yes]" in printed or "LEFT[$'yes\\n']" in printed


@pytest.mark.parametrize(
    ("script", "found"),
    [
        (f"printf prompt | {ASKS}", "SIXEL"),
        (f"{ASKS} < /dev/null", "SIXEL"),
        (f"set -m; {ASKS} & wait", "None"),
        (f"setsid -w {ASKS}", "None"),
    ],
    ids=["input is a pipe", "input is a file", "in the background", "in a session of its own"],
)
def test_only_a_process_in_the_foreground_asks_its_terminal(script: str, found: str) -> None:
    printed = asked("sixel", script=script)
    assert re.search(rf"FOUND Abilities\(protocol=\S*{found}", printed), printed
    assert "LEFT['']" in printed


def test_no_show_asks_the_terminal_nothing() -> None:
    script = "from imagegen.cli.show import painter_for; print('FOUND', painter_for(False))"
    printed = asked("kitty", script=f'"{sys.executable}" -c "{script}"')
    assert "FOUND None" in printed and "\x1b" not in printed


@pytest.mark.parametrize(
    ("environment", "asks", "not_asked"),
    [
        ({"TERM": "xterm-kitty"}, [KITTY, ATTRIBUTES], []),
        ({"TERM": "tmux-256color"}, [ATTRIBUTES], [KITTY, b"\x1b]1337"]),
        ({"TERM": "screen"}, [ATTRIBUTES], [KITTY, b"\x1b]1337"]),
        ({"TERM": "xterm-256color", "TMUX": "/tmp/tmux-0/default,1,0"}, [ATTRIBUTES], [KITTY]),
        ({"TERM": "linux"}, [], [b"\x1b"]),
        ({"TERM": "dumb"}, [], [b"\x1b"]),
        ({}, [], [b"\x1b"]),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "Apple_Terminal"}, [], [b"\x1b"]),
    ],
    ids=lambda value: " ".join(map(str, value.values())) or "none" if isinstance(value, dict) else "",
)
def test_a_terminal_is_not_asked_what_it_would_print(
    environment: dict[str, str], asks: list[bytes], not_asked: list[bytes]
) -> None:
    questions = questions_for(environment)
    assert all(one in questions for one in asks)
    assert not any(one in questions for one in not_asked)


def test_the_size_of_a_character_is_the_windows_then_the_terminals() -> None:
    answers = b"".join(ANSWERS["sixel"].values())
    assert understood(answers, (7, 14)).cell_px == (7, 14)
    assert understood(answers, None).cell_px == (9, 18)
    assert understood(b"\x1b[6;0;0t\x1b[?4c", None) == abilities.Abilities(Protocol.SIXEL, abilities.USUAL_CELL)
    assert understood(b"\x1b[?64;14;40c", None).protocol is None


def noise(width: int = 300, height: int = 100, mode: str = "RGB") -> Image.Image:
    return Image.frombytes("RGB", (width, height), os.urandom(width * height * 3)).convert(mode)


@pytest.mark.parametrize("protocol", list(Protocol), ids=str)
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_a_picture_fits_its_room_and_leaves_the_cursor(protocol: Protocol, mode: str) -> None:
    drawing = Painter(protocol, (10, 20)).draw(noise(mode=mode), (20, 10))
    assert (drawing.columns, drawing.rows) == (20, 4), "300x100 in 200 pixels across: 67 down"
    assert drawing.text.startswith("\x1b7" + STARTS[protocol.value].decode()[:2].replace("▀", "\x1b["))
    assert drawing.text.endswith("\x1b8")
    assert "\n" not in drawing.text
    small = Painter(protocol, (10, 20)).draw(noise(30, 30, mode), (20, 10))
    assert (small.columns, small.rows) == (3, 2), "never larger than it is"
    preview = Painter(protocol, (10, 20)).draw(noise(30, 30, mode), (20, 10), natural_px=(120, 120))
    assert (preview.columns, preview.rows) == (12, 6), "as large as the picture that it stands for"


def test_kittys_pieces_are_the_picture() -> None:
    picture = noise()
    sent = Painter(Protocol.KITTY, (10, 20)).draw(picture, (80, 40)).text
    pieces = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", sent)
    assert len(pieces) > 2
    assert all(len(data) <= CHUNK_BYTES for _, data in pieces)
    assert [keys.rpartition("m=")[2] for keys, _ in pieces] == ["1"] * (len(pieces) - 1) + ["0"]
    assert all("q=2" in keys for keys, _ in pieces), "the terminal must not answer"
    file = base64.b64decode("".join(data for _, data in pieces))
    assert Image.open(io.BytesIO(file)).tobytes() == picture.tobytes()


def test_iterm2_gets_the_picture_and_its_size_in_characters() -> None:
    picture = noise()
    sent = Painter(Protocol.ITERM2, (10, 20)).draw(picture, (80, 40)).text
    keys, data = re.fullmatch(r"\x1b7\x1b]1337;File=([^:]*):([^\x07]*)\x07\x1b8", sent, re.DOTALL).groups()  # type: ignore[union-attr]
    assert {"inline=1", "width=30", "height=5"} <= set(keys.split(";"))
    assert Image.open(io.BytesIO(base64.b64decode(data))).tobytes() == picture.tobytes()


def test_a_sixel_picture_has_its_size_and_is_white_where_transparent() -> None:
    sent = Painter(Protocol.SIXEL, (10, 20)).draw(Image.new("RGBA", (30, 12)), (80, 40)).text
    assert '"1;1;30;12' in sent
    assert "#0;2;100;100;100" in sent


@pytest.mark.parametrize(("colours", "code"), [("truecolor", "38;2;255;0;0"), ("256", "38;5;196"), ("standard", "31")])
def test_half_blocks_use_the_colours_that_the_terminal_has(colours: str, code: str) -> None:
    picture = Image.new("RGB", (20, 40), "blue")
    picture.paste("red", (0, 0, 20, 20))
    drawing = Painter(Protocol.BLOCKS, (10, 20), colours).draw(picture, (80, 40))
    assert (drawing.columns, drawing.rows, drawing.text.count("▀")) == (2, 2, 4)
    assert code in drawing.text


def test_textual_image_is_imported_for_sixels_alone_and_asks_nothing(tmp_path: Path) -> None:
    script = (
        "import sys; from PIL import Image; from imagegen.cli.terminal.pictures import Painter; "
        "from imagegen.cli.terminal.abilities import Protocol; "
        "draw = lambda p: Painter(p, (9, 18)).draw(Image.new('RGB', (9, 9)), (9, 9)); "
        "draw(Protocol.KITTY); assert 'textual_image' not in sys.modules; "
        "draw(Protocol.SIXEL); assert 'textual_image.renderable' not in sys.modules; "
        "assert 'textual_image' in sys.modules"
    )
    ran = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")

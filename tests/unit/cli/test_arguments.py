"""What is typed wrongly is one sentence and an exit code, whatever the command; nothing is asked of a service."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from served import free_port

from imagegen import cli

NOT_UTF8 = os.fsdecode(b"caf\xe9")
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes], tmp_path: Path) -> Run:
    """The exit code and standard error of a command, in an empty folder; no service answers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IMAGEGEN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("IMAGEGEN_URL", f"http://127.0.0.1:{free_port()}")

    for name in ("HOST", "PORT", "MODEL"):  # `imagegen serve` sets them for the program that it becomes
        monkeypatch.setenv(f"IMAGEGEN_{name}", "")
        monkeypatch.delenv(f"IMAGEGEN_{name}")

    def command(*words: str, stdin: bytes | None = None) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["imagegen", *words])
        if stdin is not None:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        assert isinstance(sys.stderr, io.TextIOWrapper)
        sys.stderr.reconfigure(errors="backslashreplace")  # as it is outside pytest
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code
        else:
            code = 0
        printed = capsysbinary.readouterr().err.decode()
        return (code, printed) if isinstance(code, int) else (1, f"{printed}{code or ''}")

    return command


def sentence(printed: str) -> str:
    """The last line, which is the reason; the lines before are click's usage."""
    return printed.rstrip().splitlines()[-1]


# ---- the prompt -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stdin", "said"),
    [
        (b"", "Standard input is empty"),
        (b" \n\t\r\n", "Standard input is empty"),
        (b"\xef\xbb\xbf\n", "Standard input is empty"),
        (b"caf\xe9", "Standard input is not UTF-8 text."),
        ("a cat".encode("utf-16"), "Standard input is not UTF-8 text."),
        (b"x" * 65_537, "Standard input has more than 65,536 bytes"),
    ],
    ids=["empty", "white space", "a mark", "Latin-1", "UTF-16", "too long"],
)
def test_standard_input_that_is_no_prompt(run: Run, stdin: bytes, said: str) -> None:
    code, printed = run("draw", "-", stdin=stdin)
    assert code == 2 and said in sentence(printed)


def test_a_prompt_of_standard_input_is_asked_for(run: Run) -> None:
    code, printed = run("draw", "-", stdin=b"\xef\xbb\xbfa caf\xc3\xa9\n")
    assert code == 4 and "no service answers" in sentence(printed)


def test_standard_input_that_is_closed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    code, printed = run("draw", "-")
    assert code == 2 and "Standard input is closed" in sentence(printed)


# ---- what is not UTF-8 ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("draw", NOT_UTF8),
        ("draw", "x", "--negative", NOT_UTF8),
        ("draw", "x", "--model", NOT_UTF8),
        ("draw", "x", "--url", NOT_UTF8),
        ("edit", NOT_UTF8, "x"),
        ("edit", "a.png", NOT_UTF8),
        ("compare", "--models", NOT_UTF8),
        ("cancel", NOT_UTF8),
        ("jobs", "--url", f"http://{NOT_UTF8}"),
        ("status", "--url", NOT_UTF8),
        ("warm", "--model", NOT_UTF8),
        ("unload", "--url", NOT_UTF8),
        ("models", "show", NOT_UTF8),
        ("models", "make", NOT_UTF8),
        ("models", "fetch", NOT_UTF8),
        ("token", "new", NOT_UTF8),
        ("token", "new", "kim", "--file", f"file/{NOT_UTF8}"),
        ("serve", "--host", NOT_UTF8),
        ("serve", "--model", NOT_UTF8),
        ("deploy", "--name", NOT_UTF8),
        ("deploy", "--host", NOT_UTF8),
        ("engine", "build", "--arch", NOT_UTF8),
        (NOT_UTF8,),
    ],
    ids=lambda words: " ".join(words).replace(NOT_UTF8, "X"),
)
def test_an_argument_that_is_not_utf8_is_a_sentence(run: Run, tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "a.png").touch()
    code, printed = run(*words)
    assert code in {1, 2, 4}, printed
    assert "Traceback" not in printed and sentence(printed)


# ---- files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["draw", "edit", "compare"])
@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("x.gif", "'.gif' cannot be written. The name may end in .png, .jpg, .jpeg or .webp."),
        ("x.PNG.tiff", "'.tiff' cannot be written"),
        ("file/x.png", "'file' is not a folder."),
        ("file/below/x.png", "'file' is not a folder."),
        ("folder", "'folder' is a folder."),
        ("folder.png", "'folder.png' is a folder."),
        ("/proc/x.png", "Nothing can be written in '/proc'"),
        ("/proc/sys/kernel/ostype", "cannot be written") if os.geteuid() else ("/proc/no/x.png", "in '/proc'"),
        ("x" * 300 + ".png", "File name too long"),
        (f"file/{NOT_UTF8}.png", "is not a folder"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_before_drawing(
    run: Run, tmp_path: Path, command: str, target: str, said: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.png").mkdir()
    before = sorted(tmp_path.rglob("*"))
    words = {"draw": ("draw", "x"), "edit": ("edit", "file", "x"), "compare": ("compare", "--models", "a")}
    code, printed = run(*words[command], "-o", target)
    assert code == 2 and said in sentence(printed), printed
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("target", ["x.png", "x.JPG", "x.jpeg", "x.webp", "x", "new/folder/x.png", "here.png"])
def test_a_file_that_can_be_written_is_not_made_before_there_is_a_picture(
    run: Run, tmp_path: Path, target: str
) -> None:
    (tmp_path / "here.png").write_text("as it was")
    code, printed = run("draw", "x", "-o", target)
    assert code == 4 and "no service answers" in sentence(printed)
    assert [path.name for path in tmp_path.iterdir()] == ["here.png"]
    assert (tmp_path / "here.png").read_text() == "as it was"


def test_standard_output_takes_one_picture_and_no_terminal(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "-o - writes one picture" in run("draw", "x", "-o", "-", "-n", "2")[1]
    assert "no service answers" in run("draw", "x", "-o", "-")[1]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    code, printed = run("draw", "x", "-o", "-")
    assert code == 2 and "Standard output is a terminal" in sentence(printed)


def test_a_folder_that_takes_no_picture_is_refused_before_drawing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/proc")
    code, printed = run("draw", "x")
    assert code == 2 and "Nothing can be written in '.'" in sentence(printed) and "-o" in sentence(printed)


@pytest.mark.parametrize(
    "words",
    [("edit", "{}", "x"), ("edit", "a.png", "x", "--also", "{}"), ("edit", "a.png", "x", "--mask", "{}")],
    ids=["image", "also", "mask"],
)
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing.png", "There is no file 'missing.png'."),
        ("file/x.png", "'file/x.png' cannot be read: Not a directory."),
        ("folder", "'folder' is a folder."),
        ("pipe", "'pipe' is not an ordinary file."),
        ("huge.png", "'huge.png' has 100 MiB"),
        ("x" * 300, "File name too long"),
        ("a b.png", "2 names in that folder are written nearly the same"),
        (NOT_UTF8, "There is no file 'caf\\udce9'."),
    ],
)
def test_a_picture_that_cannot_be_read_is_named(
    run: Run, tmp_path: Path, words: tuple[str, ...], name: str, said: str
) -> None:
    for file in ("a.png", "file", "a\u202fb.png", "a\u00a0b.png"):
        (tmp_path / file).touch()
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "huge.png").open("wb") as huge:
        huge.truncate(100 * 2**20)
    code, printed = run(*(word.format(name) for word in words))
    assert code == 2 and said in sentence(printed), printed


@pytest.mark.parametrize(
    "words",
    [
        ("token", "new", "kim"),
        ("tls", "show"),
        ("tls", "renew"),
        ("models", "list"),
        ("models", "make", "tiny"),
        ("serve",),
    ],
    ids=" ".join,
)
def test_a_state_folder_below_a_file_is_a_sentence(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("IMAGEGEN_HOME", str(tmp_path / "file" / "home"))
    monkeypatch.setenv("IMAGEGEN_PORT", str(free_port()))
    monkeypatch.setenv("IMAGEGEN_TLS", "auto")
    code, printed = run(*words)
    if words == ("models", "list"):
        assert code == 0
    else:
        assert code == 1 and f"{tmp_path}/file" in sentence(printed), printed

"""The command line starts with little: what it does not import, the help without its commands, the exit codes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from served import ROOT

from imagegen.cli import MODULES, cli, errors
from imagegen.cli.client import service_of
from imagegen.settings import load
from imagegen_client.address import DEFAULT_URL

HEAVY = (
    *("bentoml", "sqlalchemy", "pydantic", "rich", "textual_image", "pygments", "PIL", "numpy"),
    *("starlette", "uvicorn", "torch"),
)
SENTENCE = "no service answers at http://127.0.0.1:9"


def imported(*words: str, config: str = "") -> set[str]:
    """The top-level modules that a command of the command line has imported at its end."""
    script = (
        "import sys, atexit; from imagegen.cli import main; "
        "loaded = lambda: {name.split('.')[0] for name, module in sys.modules.items() if module}; "
        "atexit.register(lambda: print('\\n@', *loaded())); "
        f"sys.argv = ['imagegen', *{words!r}]; main()"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith("IMAGEGEN_")}
    command = [sys.executable, "-c", script]
    ran = subprocess.run(
        command, cwd=ROOT, env=kept | {"IMAGEGEN_CONFIG": config}, capture_output=True, text=True, timeout=120
    )
    return set(ran.stdout.rpartition("@")[2].split())


@pytest.mark.parametrize(
    ("words", "also"),
    [
        (["--help"], ["httpx", "ssl", "imagegen_client"]),
        (["status", "--url", "http://127.0.0.1:9"], []),
        (["jobs", "--url", "http://127.0.0.1:9"], []),
        (["status"], []),  # this machine's own service: its address needs no settings
    ],
    ids=" ".join,
)
def test_what_a_start_does_not_import(words: list[str], also: list[str]) -> None:
    modules = imported(*words)
    assert "click" in modules
    assert modules & {*HEAVY, *also} == set()


def test_an_address_in_the_settings_file_costs_no_settings(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text('url = "http://127.0.0.1:9"\ntls_ca = "/nowhere.pem"\n')
    assert imported("status", config=str(file)) & set(HEAVY) == set()


def test_the_help_lists_every_command_with_its_own_words() -> None:
    printed = CliRunner().invoke(cli, ["--help"]).output
    lines = dict(line.split(maxsplit=1) for line in printed.partition("Commands:\n")[2].splitlines())
    context = cli.make_context("imagegen", [], resilient_parsing=True)
    assert sorted(lines) == sorted(name for names in MODULES.values() for name in names)
    for name, line in lines.items():
        command = cli.get_command(context, name)
        assert command is not None
        whole = command.get_short_help_str(400)
        assert whole.startswith(line.rstrip(".").rstrip()), name


@pytest.mark.parametrize(
    "environ",
    [{}, {"IMAGEGEN_PORT": "8799", "IMAGEGEN_TOKEN": "t"}, {"IMAGEGEN_PORT": "08799"}, {"IMAGEGEN_HOST": "::1"}],
    ids=str,
)
def test_the_address_without_settings_is_theirs(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    address = service_of(None).url
    monkeypatch.delenv("IMAGEGEN_TOKEN", raising=False)
    assert address == load().url
    assert environ or address == DEFAULT_URL


def ended(folder: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("IMAGEGEN_")}
    command = [sys.executable, "-m", "imagegen.cli", *words]
    environment = kept | {"PYTHONPATH": str(ROOT), "IMAGEGEN_HOME": str(folder), "IMAGEGEN_CONFIG": ""} | environ
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--version"], 0, ""),
        (["models", "show", "dall-e-3"], 1, "dall-e-3"),
        (["frobnicate"], 2, "No such command"),
        (["draw"], 2, "Missing argument"),
        (["edit", "missing.png", "make it blue"], 2, "There is no file 'missing.png'."),
        (["status", "--url", "http://127.0.0.1:9"], 4, SENTENCE),
        (["draw", "a cat", "--url", "http://127.0.0.1:9"], 4, SENTENCE),
        (["status", "--url", "nonsense"], 2, "nonsense is not an address of a service"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_exit_code_says_how_it_ended(tmp_path: Path, words: list[str], code: int, said: str) -> None:
    ran = ended(tmp_path, *words)
    assert ran.returncode == code, ran.stderr
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_client_reports_a_misspelled_setting_too(tmp_path: Path) -> None:
    ran = ended(tmp_path, "status", IMAGEGEN_PROT="8799")
    assert (ran.returncode, ran.stderr.startswith("imagegen: IMAGEGEN_PROT is not a setting")) == (1, True)


def test_the_page_and_the_help_have_every_exit_code() -> None:
    page = (ROOT / "docs" / "cli.md").read_text()
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
    kinds = [errors.ServiceError, *errors.ServiceError.__subclasses__()]
    assert listed == {0, errors.INTERRUPTED, *(kind.exit_code for kind in kinds)}
    listed_by_help = CliRunner().invoke(cli, ["--help"]).output.partition("Exit codes:")[2].partition("\n\n")[0]
    assert {int(code) for code in re.findall(r"\d+", listed_by_help)} == listed

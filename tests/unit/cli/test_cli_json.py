"""The commands of this machine with --json: each document against its schema, and that none is left out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from cli_schemas import COMMANDS, WITHOUT
from command_line import CommandLine, check_schema, document_of
from served import ROOT

from imagegen.cli import cli


def commands(group: click.Group, before: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Every command as it is typed. A group that can be called by itself is one, too."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        words = (*before, name)
        if isinstance(command, click.Group):
            yield from commands(command, words)
        if not isinstance(command, click.Group) or command.invoke_without_command:
            yield " ".join(words), command


ALL = dict(commands(cli))


def test_every_command_has_a_schema_and_the_option() -> None:
    assert ALL.keys() == COMMANDS.keys() | WITHOUT
    with_option = {name for name, command in ALL.items() if any("--json" in one.opts for one in command.params)}
    assert with_option == COMMANDS.keys()


def test_the_document_of_every_command_is_checked_by_a_test() -> None:
    used = {name for path in (ROOT / "tests").rglob("test_*.py") for name in re.findall(USE, path.read_text())}
    assert COMMANDS.keys() - {"warm", "unload"} - used == set(), "warm and unload are checked in a loop with status"


USE = re.compile(r'document_of\(\s*"([a-z ]+)"')


@pytest.fixture
def here(imagegen: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """The command line with a state folder of its own."""
    monkeypatch.setenv("IMAGEGEN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("IMAGEGEN_TLS", "auto")
    return imagegen


def test_the_documents_of_tokens_and_certificates(here: CommandLine) -> None:
    made = document_of("token new", here("token", "new", "laptop", "--json").out)
    assert made["name"] == "laptop" and made["token"] not in Path(made["file"]).read_text()
    shown = document_of("tls show", here("tls", "show", "--json").out)
    assert Path(shown["file"]).exists()
    renewed = document_of("tls renew", here("tls", "renew", "--json").out)
    assert renewed["sha256"] != shown["sha256"]


def test_the_document_of_the_settings(here: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEGEN_PORT", "8799")
    shown = document_of("config show", here("config", "show", "--json").out)
    port = next(one for one in shown["settings"] if one["name"] == "port")
    assert (port["value"], port["source"]) == (8799, "environment")


def test_the_documents_of_the_database(here: CommandLine) -> None:
    assert document_of("database status", here("database", "status", "--json").out)["state"] == "behind"
    upgraded = document_of("database upgrade", here("database", "upgrade", "--json").out)
    assert upgraded["before"] < upgraded["schema"]
    shown = here("database", "status", "--json")
    assert (shown.code, document_of("database status", shown.out)["state"]) == (0, "current")


def test_the_document_of_the_engine(here: CommandLine, sd_server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEGEN_SD_SERVER", str(sd_server))
    assert document_of("engine path", here("engine", "path", "--json").out) == {"path": str(sd_server)}
    assert document_of("engine build", here("engine", "build", "--json").out) == {"path": str(sd_server)}


@pytest.mark.parametrize(
    ("words", "environment", "code", "name"),
    [
        (("models", "show", "dall-e-3"), {}, 1, "failed"),
        (("models", "check", "dall-e-3"), {}, 1, "failed"),
        (("models", "fetch", "tiny"), {}, 1, "failed"),
        (("loras", "remove", "none"), {}, 1, "failed"),
        (("loras", "add", "none.safetensors"), {}, 2, "usage"),
        (("engine", "import", "none.tar.gz"), {}, 2, "usage"),
        (("engine", "build", "--sha256", "00"), {}, 2, "usage"),
        (("tls", "show"), {"IMAGEGEN_TLS": "off"}, 1, "bad_setting"),
        (("status",), {"IMAGEGEN_PROT": "1"}, 1, "bad_setting"),
        (("models", "list"), {"IMAGEGEN_PORT": "none"}, 1, "bad_setting"),
        (("token", "new"), {}, 2, "usage"),
        (("deploy", "--runtime", "lxc"), {}, 2, "usage"),
        (("doctor", "--shallow"), {}, 2, "usage"),
        (("models",), {}, 2, "usage"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_failure_on_this_machine_is_a_document(
    here: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    environment: dict[str, str],
    code: int,
    name: str,
) -> None:
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    ran = here(*words, "--json")
    check_schema(ran.document, "cli_error")
    assert (ran.code, ran.document["error"]["code"], ran.document["error"]["exit_code"]) == (code, name, code)
    assert ran.err


def test_an_interrupt_is_a_document(here: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("imagegen.cli.status.service_of", interrupted)
    ran = here("status", "--json")
    check_schema(ran.document, "cli_error")
    assert (ran.code, ran.document["error"]["code"]) == (130, "interrupted")

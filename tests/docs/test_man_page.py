"""The man page: of every command and option, and in order for the programs that show it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator

import click
from served import ROOT, Require

from imagegen.cli import cli

PAGE = ROOT / "docs" / "imagegen.1"


def commands(group: click.Group, context: click.Context) -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield f"{context.command_path} {name}", command
        if isinstance(command, click.Group):
            yield from commands(command, click.Context(command, parent=context, info_name=name))


def test_it_has_every_command_and_each_option_with_its_text() -> None:
    page = PAGE.read_text().replace("\\-", "-")
    sections = dict(re.findall(r"^\.B (imagegen .*)\n(.*\n(?:(?!\.SS ).*\n)*)", page, re.MULTILINE))
    found = dict(commands(cli, click.Context(cli, info_name="imagegen")))
    assert sections.keys() == found.keys()
    for path, command in found.items():
        options = [one for one in command.params if isinstance(one, click.Option) and not one.hidden]
        assert all(name in sections[path] for option in options for name in option.opts), path


def test_roff_sets_it_without_a_warning(require: Require) -> None:
    require("groff is not installed", shutil.which("groff") is not None)
    command = ["groff", "-man", "-Tutf8", "-ww", "-P-cbou", "-rLL=100n", str(PAGE)]
    shown = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert re.search(r"^ +imagegen draw - -o - < prompt.txt > cup.png$", shown.stdout, re.MULTILINE)
    assert "-o, --output FILE" in shown.stdout

"""The man page of the command line, made of its help."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click

from imagegen.cli import cli

HEAD = '.\\" Made by `python tools/generate_docs.py` from the help of the commands: change that.'
SEE = "The documentation is in the folder docs of the source; docs/cli.md is about the command line."
ESCAPES = str.maketrans({"\\": "\\e", "-": "\\-", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti", "'": "\\(aq"})


def man_page() -> str:
    """imagegen(1) in roff's macros for man pages."""
    context = _context(cli, "imagegen", None)
    lines = [HEAD, '.TH IMAGEGEN 1 "" imagegen', ".SH NAME"]
    lines += ["imagegen \\- " + _plain(cli.get_short_help_str(200).rstrip("."))]
    lines += [".SH SYNOPSIS", ".B imagegen", "[OPTIONS] COMMAND [ARGUMENTS]", ".SH DESCRIPTION"]
    lines += [*_text(cli.help or ""), *_options(cli, context), ".SH COMMANDS"]
    for name, command, own in _commands(cli, context):
        usage = " ".join(command.collect_usage_pieces(own))
        lines += [f".SS {_plain(name)}", f".B {_plain(own.command_path)}", _plain(usage)]
        lines += [".PP", *_text(command.help or ""), *_options(command, own)]
    return "\n".join([*lines, ".SH SEE ALSO", _plain(SEE)]) + "\n"


def _context(command: click.Command, name: str, parent: click.Context | None) -> click.Context:
    return click.Context(command, info_name=name, parent=parent, **command.context_settings)


def _commands(group: click.Group, context: click.Context) -> Iterator[tuple[str, click.Command, click.Context]]:
    """Every command below the group, by name: its name with those of its groups, itself, and its context."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        own = _context(command, name, context)
        yield own.command_path.removeprefix("imagegen "), command, own
        if isinstance(command, click.Group):
            yield from _commands(command, own)


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    """The options and arguments of a command that have a text. --help is on every command, and described once."""
    for option in command.get_params(context):
        record = option.get_help_record(context)
        if record is None or not record[1] or (context.parent is not None and "--help" in option.opts):
            continue
        yield from (".TP", f".B {_plain(record[0])}", _plain(record[1]))


def _text(text: str) -> Iterator[str]:
    """The paragraphs of a help text. One that starts with \\b keeps its lines."""
    for number, paragraph in enumerate(re.split(r"\n\s*\n", text.strip())):
        if number:
            yield ".PP"
        lines = [line.rstrip() for line in paragraph.split("\n")]
        if lines[0].strip() == "\b":
            yield from (".nf", *map(_plain, lines[1:]), ".fi")
        else:
            yield _plain(" ".join(line.strip() for line in lines))


def _plain(text: str) -> str:
    """Text in which roff finds no request and no escape, and whose signs can be copied."""
    safe = "".join(one if one.isascii() else f"\\[u{ord(one):04X}]" for one in text.translate(ESCAPES))
    return f"\\&{safe}" if safe.startswith(".") else safe

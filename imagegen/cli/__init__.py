"""`imagegen …`: run the service, and use one from a terminal.

Belongs here: arguments, output, exit codes. Not here: the work of a command, which other packages do."""

from __future__ import annotations

import codecs
import io
import os
import sys
from importlib import import_module
from typing import Any, NoReturn

import click

from imagegen.cli.errors import INTERRUPTED, PartlyFailed, ServiceError
from imagegen.setting_values import SettingsError

MODULES = {
    "queue": ("jobs", "cancel"),
    "draw": ("draw", "edit"),
    "vary": ("vary",),
    "upscale": ("upscale",),
    "status": ("status", "warm", "unload"),
    "batch": ("batch",),
    "images": ("images",),
    "inspection": ("inspect",),
    "verify": ("verify",),
    **{name: (name,) for name in ("serve", "compare", "engine", "models", "loras", "tls", "token", "doctor", "deploy")},
    "completion": ("completion",),
    "watch": ("watch",),
    "database": ("database",),
    "config": ("config",),
}
"""The modules of this package with commands, and the names of their commands."""


# httpx imports its own command line, with rich and pygments, where these are installed: half of the start of `status`.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]


class _Commands(click.Group):
    """Imports a command only when it is used: importing all of them takes most of a second."""

    def list_commands(self, _context: click.Context) -> list[str]:
        return sorted(name for names in MODULES.values() for name in names)

    def get_command(self, _context: click.Context, cmd_name: str) -> click.Command | None:
        for module, names in MODULES.items():
            if cmd_name in names:
                command: click.Command = getattr(import_module(f"imagegen.cli.{module}"), cmd_name)
                return command
        return None

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands in the help, without importing them."""
        commands = _without_import()
        limit = formatter.width - 6 - max(map(len, commands))
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.get_short_help_str(limit)) for name, command in commands.items()])

    def shell_complete(self, context: click.Context, incomplete: str) -> list[Any]:
        """The commands whose names start so, without importing them, and the options of this one."""
        from click.shell_completion import CompletionItem

        found = {name: command for name, command in _without_import().items() if name.startswith(incomplete)}
        commands = [CompletionItem(name, help=command.get_short_help_str()) for name, command in found.items()]
        return [*commands, *click.Command.shell_complete(self, context, incomplete)]


def _without_import() -> dict[str, click.Command]:
    """Stand-ins of all commands by name, with their help."""
    from imagegen.cli.help_lines import help_of

    texts = {name: text for module, names in MODULES.items() for name, text in help_of(module, names).items()}
    return {name: click.Command(name, help=text) for name, text in sorted(texts.items())}


def _version(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if not wanted or context.resilient_parsing:
        return
    from imagegen.cli.versions import lines

    click.echo("\n".join(lines()))
    context.exit()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
def cli() -> None:
    """Pictures from words, on your own GPU.

    \b
    imagegen serve                                run the service
    imagegen draw "a red circle" -o circle.png    draw a picture

    \b
    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused by the service, 4 no service, 130 interrupted.
    """


def main() -> None:
    """Run the `imagegen` command. Failures are a sentence on stderr, with the exit codes of docs/cli.md."""
    if instruction := os.environ.get("_IMAGEGEN_COMPLETE"):
        from imagegen.cli.completion import answer

        answer(instruction)
    codecs.register_error(_SHOWN, _show)
    if isinstance(sys.stdout, io.TextIOWrapper):  # standard error escapes by default
        sys.stdout.reconfigure(errors=_SHOWN)
    try:
        cli(standalone_mode=False)
    except click.exceptions.Abort:
        _end("interrupted", "interrupted", INTERRUPTED, "The command was interrupted.")
    except click.ClickException as wrong:
        wrong.show()
        code = "usage" if isinstance(wrong, click.UsageError) else "failed"
        _end(None, code, wrong.exit_code, wrong.format_message())
    except ServiceError as failed:
        shown = None if isinstance(failed, PartlyFailed) else failed.code or failed.own_code
        _end(f"imagegen: {failed}", shown, failed.exit_code, failed.detail)
    except SettingsError as wrong:
        from imagegen.config_file import located

        sentence = located(str(wrong))
        _end(f"imagegen: {sentence}", "bad_setting", 1, sentence)
    except UnicodeEncodeError:
        from imagegen.cli.arguments import printable

        odd = [repr(printable(word)) for word in sys.argv[1:] if printable(word) != word]
        if not odd:
            raise
        sentence = f"{', '.join(odd)} is not UTF-8 text."
        _end(f"imagegen: {sentence}", "usage", 2, sentence)


def _end(said: str | None, code: str | None, exit_code: int, detail: str) -> NoReturn:
    """Print what was not yet said on standard error, with --json also the error unless `code` is None, and end."""
    if said is not None:
        click.echo(said, err=True)
    from imagegen.cli.output import print_error, wants_json

    if code is not None and wants_json(sys.argv[1:]):
        print_error(code, detail, exit_code)
    sys.exit(exit_code)


_SHOWN = "imagegen.shown"


def _show(wrong: UnicodeError) -> tuple[str | bytes, int]:
    """Codec error handler: bytes of a path that is not UTF-8 stay, characters the terminal lacks become escapes."""
    try:
        return codecs.lookup_error("surrogateescape")(wrong)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(wrong)

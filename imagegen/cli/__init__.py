"""`imagegen …`: run the service, and use one from a terminal.

Belongs here: arguments, output, exit codes. Not here: the work of a command, which other packages do."""

from __future__ import annotations

import codecs
import io
import sys
from importlib import import_module

import click

from imagegen import __version__, settings
from imagegen.cli.arguments import printable
from imagegen.cli.client import ServiceError

MODULES = {
    "queue": ("jobs", "cancel"),
    "draw": ("draw", "edit"),
    "vary": ("vary",),
    "upscale": ("upscale",),
    "status": ("status", "warm", "unload"),
    **{name: (name,) for name in ("serve", "compare", "engine", "models", "tls", "token", "doctor", "deploy")},
}
"""The modules of this package with commands, and the names of their commands."""


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


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="imagegen")
def cli() -> None:
    """Pictures from words, on your own GPU.

    \b
    imagegen serve                                run the service
    imagegen draw "a red circle" -o circle.png    draw a picture
    """


def main() -> None:
    """Run the `imagegen` command. Exit codes: 0 success, 1 failure with the reason on stderr, 2 wrong usage."""
    codecs.register_error(_SHOWN, _show)
    if isinstance(sys.stdout, io.TextIOWrapper):  # standard error escapes by default
        sys.stdout.reconfigure(errors=_SHOWN)
    try:
        cli(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit("interrupted")
    except click.ClickException as wrong:
        wrong.show()
        sys.exit(wrong.exit_code)
    except (ServiceError, settings.SettingsError) as failed:
        sys.exit(f"imagegen: {failed}")
    except UnicodeEncodeError:
        odd = [repr(printable(word)) for word in sys.argv[1:] if printable(word) != word]
        if not odd:
            raise
        click.echo(f"imagegen: {', '.join(odd)} is not UTF-8 text.", err=True)
        sys.exit(2)


_SHOWN = "imagegen.shown"


def _show(wrong: UnicodeError) -> tuple[str | bytes, int]:
    """Codec error handler: bytes of a path that is not UTF-8 stay, characters the terminal lacks become escapes."""
    try:
        return codecs.lookup_error("surrogateescape")(wrong)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(wrong)

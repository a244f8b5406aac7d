"""`imagegen completion`: print a shell's completion, and answer it.

The shell starts the command with the variable ANSWERS for each word to complete; `answer` prints the candidates, which
`candidates` collects.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import click

ANSWERS = "_IMAGEGEN_COMPLETE"
"""Names the shell, as click has it: `bash_complete`."""
SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the completion of a shell: commands, options, models, LoRAs and job ids.

    \b
    eval "$(imagegen completion bash)"         in ~/.bashrc
    eval "$(imagegen completion zsh)"          in ~/.zshrc, after compinit
    imagegen completion fish | source          in ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class

    from imagegen.cli import cli

    kind = get_completion_class(shell)
    assert kind is not None
    maker = kind(cli, {}, "imagegen", ANSWERS)
    click.echo(maker.source_template % maker.source_vars())


def answer(instruction: str) -> NoReturn:
    """Print the candidates for the word that a shell completes, and end. Prints no error, and reads no input.

    Other threads, which may still wait for the service, end with the process.
    """
    from click.shell_completion import get_completion_class

    from imagegen.cli import cli

    silence = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 2):
        os.dup2(silence, stream)
    printed = ""
    try:
        kind = get_completion_class(instruction.partition("_")[0])
        printed = kind(cli, {}, "imagegen", ANSWERS).complete() if kind else ""
    except BaseException:  # an interrupt, too
        os._exit(1)
    sys.stdout.write(f"{printed}\n")
    sys.stdout.flush()
    os._exit(0)

"""The option --show, and whether the pictures of a command can be shown in its terminal.

Imports little: rich and Pillow only where a picture is shown.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from imagegen.cli.terminal.pictures import Painter
    from imagegen.cli.terminal.showing import Showing

show_option = click.option(
    "--show/--no-show",
    default=None,
    help="Show pictures in the terminal. Default: where it has kitty's, iTerm2's or sixel graphics. "
    "--show: elsewhere with half blocks.",
)


def showing(show: bool | None) -> Showing | None:
    """Where to show pictures: on standard error. None unless that and standard output are terminals that can.

    Asks the terminal. Call it before anything is printed and before a job is submitted.
    """
    painter = painter_for(show)
    if painter is None:
        return None
    from imagegen.cli.terminal.showing import Showing

    return Showing(painter, sys.stderr)


def painter_for(show: bool | None) -> Painter | None:
    """What draws pictures for the terminal: None if it has no graphics, and half blocks were not asked for."""
    if show is False or not (_is_terminal(sys.stdout) and _is_terminal(sys.stderr)):
        return None
    from imagegen.cli.terminal.abilities import Protocol, abilities

    found = abilities(sys.stderr.fileno())
    protocol = found.protocol
    if protocol is None and not show:
        return None
    from rich.console import Console

    from imagegen.cli.terminal.pictures import Painter

    colours = Console(stderr=True).color_system
    if protocol is None and (colours is None or sys.stderr.encoding.lower() != "utf-8"):
        return None
    return Painter(protocol or Protocol.BLOCKS, found.cell_px, colours or "truecolor")


def natural_px(params: Mapping[str, Any]) -> tuple[int, int] | None:
    """The size of the pictures of a job with these parameters; None if it is not known yet."""
    width, height = params.get("width"), params.get("height")
    return (width, height) if width and height else None


def _is_terminal(stream: object) -> bool:
    return bool(stream is not None and getattr(stream, "isatty", bool)())

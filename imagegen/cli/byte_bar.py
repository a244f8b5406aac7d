"""A progress bar on stderr that counts bytes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click


@contextmanager
def byte_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar. The yielded function moves it: the bytes done, and the bytes in all."""
    with click.progressbar(length=1, label=label, file=sys.stderr) as bar:

        def progress(done_bytes: int, total_bytes: int) -> None:
            bar.length = max(total_bytes, 1)
            bar.update(done_bytes - bar.pos)

        yield progress

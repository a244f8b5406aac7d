"""`imagegen watch`: a live view of the service, for a terminal.

One thread reads the service, and may wait for it; the main thread reads keys and writes the screen, so that a service
that does not answer holds up neither.
"""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from imagegen.cli.client import Service, service_of, url_option
from imagegen.cli.errors import ServiceError, WrongUse
from imagegen.cli.show import natural_px, painter_for, show_option
from imagegen.cli.status import status_lines

if TYPE_CHECKING:
    from imagegen.cli.terminal.pictures import Drawing, Painter
    from imagegen.cli.terminal.screen import Screen
    from imagegen.cli.watch_view import Reading
    from imagegen_client.pictures import Preview

EVERY_S = 1.0
KEYS_S = 0.1
JOBS = 100
"""How many of the newest jobs are read."""


@click.command()
@show_option
@url_option
def watch(show: bool | None, url: str | None) -> None:
    """Watch the service: engine, GPU, queue, and previews of the picture that is drawn. The key q ends.

    Previews are those of jobs that asked for them, as `imagegen draw` and the page do.
    """
    if sys.stdin is None or sys.stdout is None or not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise WrongUse("`imagegen watch` needs a terminal; `imagegen status --json` is for scripts.")
    try:
        from imagegen.cli.terminal.screen import Screen
    except ImportError:
        raise WrongUse("`imagegen watch` needs a terminal of Linux or macOS.") from None

    service = service_of(url)
    painter = painter_for(show)
    reader = _Reader(service, previews=painter is not None)
    with Screen(sys.stdin.fileno(), sys.stdout, painter) as screen:
        reader.start()
        _follow(screen, reader, service.url, painter)


def _follow(screen: Screen, reader: _Reader, url: str, painter: Painter | None) -> None:
    """Show what the reader reads until q is pressed or the terminal has gone."""
    shown: tuple[Reading, tuple[int, int]] | None = None
    view = _View(url, painter)
    while True:
        now = (reader.latest, screen.size())
        if now != shown:
            screen.show(*view.of(*now))
            shown = now
        try:
            if b"q" in screen.keys(KEYS_S).lower():
                return
        except EOFError:
            return


class _View:
    """Readings as rows and a picture. A preview is encoded once."""

    def __init__(self, url: str, painter: Painter | None) -> None:
        from rich.console import Console

        self._url, self._painter, self._console = url, painter, Console()
        self._place: tuple[Preview, int, int, int] | None = None
        self._drawn: tuple[int, Drawing] | None = None

    def of(self, reading: Reading, size: tuple[int, int]) -> tuple[list[str], tuple[int, Drawing] | None]:
        """The rows, and the picture with its first row."""
        from imagegen.cli.watch_view import rows_of

        columns = size[0] - 1  # a character in the last one would wait there for a new row
        self._console.width, self._console.height = columns, size[1]
        rows = rows_of(reading, self._url, self._console, (columns, size[1]))
        start = max((number for number, row in enumerate(rows[:-1]) if row), default=0) + 2
        return rows, self._picture(reading, start, columns, len(rows) - 1 - start)

    def _picture(self, reading: Reading, start: int, columns: int, rows: int) -> tuple[int, Drawing] | None:
        if self._painter is None or reading.preview is None or reading.previewed is None or rows < 1:
            return None
        place = (reading.preview, start, columns, rows)
        if place != self._place:
            natural = natural_px(reading.previewed.params)
            try:
                self._drawn = (start, self._painter.draw(reading.preview.pil, (columns, rows), natural))
            except (OSError, ValueError, SyntaxError):
                self._drawn = None  # it is no picture
            self._place = place
        return self._drawn


class _Reader(threading.Thread):
    """Reads the service again and again. `latest` is the newest reading. A daemon: it ends with the process."""

    def __init__(self, service: Service, *, previews: bool) -> None:
        super().__init__(daemon=True)
        self._service, self._previews = service, previews
        self.latest = self._read(None)

    def run(self) -> None:
        while True:
            time.sleep(EVERY_S)
            try:
                self.latest = self._read(self.latest)
            except ServiceError as failed:
                self.latest = replace(self.latest, trouble=str(failed), preview=None, previewed=None)

    def _read(self, before: Reading | None) -> Reading:
        """One reading. Raises ServiceError."""
        from imagegen.cli.watch_view import Reading
        from imagegen_client import calls

        try:
            status = self._service.json("GET", "/api/status")
            lines, version = list(status_lines(status)), str(status["version"])
        except (KeyError, TypeError):
            raise ServiceError(f"{self._service.url} answers as another version of imagegen does.") from None
        jobs, _ = self._service.run(calls.jobs(JOBS))
        at_work = next((job for job in jobs if job.preview), None) if self._previews else None
        if at_work is None:
            return Reading(version, lines, jobs)
        same = before is not None and before.previewed is not None and before.previewed.preview == at_work.preview
        preview = before.preview if before and same else self._service.run(calls.preview(at_work))
        return Reading(version, lines, jobs, preview, at_work)

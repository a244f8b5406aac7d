"""What `imagegen watch` shows: pure functions of what was read of the service."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from imagegen.cli.plain import one_line
from imagegen_client.answers import JobState
from imagegen_client.pictures import Preview
from imagegen_client.progress import describe, percent

ENDED = 5
"""How many jobs that have ended are listed."""
WIDE = 72
"""Columns from which on a job has its id and a bar."""
PICTURE_ROWS = 8
"""Rows that are kept free for a preview."""
STYLES = {"running": "green", "failed": "red", "cancelled": "dim", "complete": "dim"}


@dataclass(frozen=True)
class Reading:
    """What was read of the service: the lines of its state, and jobs. `preview` is of the job `previewed`.

    trouble: why the newest reading failed; the rest is of the one before.
    """

    version: str
    status: Sequence[str]
    jobs: Sequence[JobState]
    preview: Preview | None = None
    previewed: JobState | None = None
    trouble: str | None = None


def rows_of(reading: Reading, url: str, console: Console, size: tuple[int, int]) -> list[str]:
    """The rows of the screen, with colours, each within the columns of `size` (columns, rows)."""
    columns, rows = size
    parts: list[RenderableType] = [Text(f"imagegen {reading.version}  {url}", style="bold")]
    if reading.trouble:
        parts.append(Text(f"Waiting for the service: {one_line(reading.trouble)}", style="red"))
    parts += [Text(_kept(line), style="dim" if reading.trouble else "") for line in reading.status]
    room = rows - len(parts) - 3 - (PICTURE_ROWS if reading.preview else 0)
    parts.append(Text())
    parts += _jobs(reading.jobs, max(1, room), columns)
    with console.capture() as printed:
        for part in parts:
            console.print(part, no_wrap=True, overflow="ellipsis", crop=True, highlight=False)
    lines = printed.get().split("\n")[:-1][: rows - 1]
    return [*lines, *[""] * (rows - 1 - len(lines)), "\x1b[2mq ends\x1b[0m"]


def _kept(line: str) -> str:
    """The line with its own spaces, without characters that control a terminal."""
    return "".join(one if one.isprintable() else " " for one in line)


def listed(jobs: Sequence[JobState]) -> list[JobState]:
    """The jobs in the order in which they are shown: running, waiting by their turn, the newest that have ended."""
    running = [job for job in jobs if job.status == "running"]
    queued = sorted((job for job in jobs if job.status == "queued"), key=lambda job: job.position or 0)
    return [*running, *queued, *[job for job in jobs if job.ended][:ENDED]]


def _jobs(jobs: Sequence[JobState], room: int, columns: int) -> list[RenderableType]:
    found = listed(jobs)
    if not found:
        return [Text("no jobs", style="dim")]
    shown = found if len(found) <= room else found[: max(1, room - 1)]
    table = Table.grid(padding=(0, 2), expand=True)
    if wide := columns >= WIDE:
        table.add_column(no_wrap=True, width=8)
        table.add_column(no_wrap=True, width=12)
    table.add_column(no_wrap=True, ratio=1)
    table.add_column(no_wrap=True, ratio=1)
    for job in shown:
        cells: list[RenderableType] = []
        if wide:
            bar = ProgressBar(total=100, completed=percent(job)) if job.status == "running" else Text(job.model)
            cells = [Text(job.job_id[:8]), bar]
        state = f"failed: {job.error.code}" if job.error else describe(job)
        table.add_row(*cells, Text(one_line(state), style=STYLES.get(job.status, "")), Text(one_line(job.prompt, 200)))
    left = len(found) - len(shown)
    return [table, Text(f"and {left} more", style="dim")] if left else [table]

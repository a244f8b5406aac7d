"""`imagegen batch`: draw every request of a file. A second run goes on where the first one ended.

`batch_file` reads the requests, `batch_names` makes the names of the pictures, `batch_state` remembers what is done,
`batch_run` draws.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from imagegen.cli import batch_file
from imagegen.cli.arguments import InputFile, no_new_file_in
from imagegen.cli.batch_file import BadLine, Line
from imagegen.cli.batch_names import DEFAULT, BadPattern, Pattern
from imagegen.cli.batch_run import BatchRun, checked
from imagegen.cli.batch_state import SUFFIX, BatchState
from imagegen.cli.client import service_of, url_option
from imagegen.cli.documents import Batch
from imagegen.cli.errors import PartlyFailed
from imagegen.cli.output import json_option, print_json


class Out(click.ParamType):
    """A pattern for the names of files."""

    name = "pattern"

    def convert(self, value: Any, param: Any, ctx: Any) -> Pattern:
        if isinstance(value, Pattern):
            return value
        try:
            pattern = Pattern.of(str(value))
        except BadPattern as wrong:
            self.fail(str(wrong), param, ctx)
        if (problem := no_new_file_in(pattern.folder)) is not None:
            self.fail(problem, param, ctx)
        return pattern


@click.command()
@click.argument("file", type=InputFile())
@click.option(
    "--out",
    type=Out(),
    default=DEFAULT,
    show_default=True,
    help="Names of the pictures. Fields: n, line, i, slug, seed, model, width, height, job_id. .png, .jpg or .webp.",
)
@click.option("--format", "kind", type=click.Choice(["text", "csv", "jsonl"]), help="Default: by the file's suffix.")
@click.option("--model", help="Of requests that name none: see `imagegen models list`.")
@click.option("-W", "--width", type=int, help="Of requests that name none: pixels across.")
@click.option("-H", "--height", type=int, help="Of requests that name none: pixels down.")
@click.option("--steps", type=int, help="Of requests that name none: sampling steps.")
@click.option("--speed", type=click.Choice(["quality", "fast"]), help="Of requests that name none.")
@click.option("--again", is_flag=True, help="Draw all anew, also what an earlier run has done.")
@json_option
@url_option
def batch(
    file: Path, out: Pattern, kind: str | None, again: bool, as_json: bool, url: str | None, **defaults: Any
) -> None:
    """Draw every request of FILE: text with a prompt a line, CSV, or JSON Lines with any field of a request.

    \b
    imagegen batch prompts.txt
    imagegen batch cards.csv --out "cards/{n:03}-{slug}-{seed}.png"

    A run that ended early, in whatever way, is resumed by the same command: nothing is drawn twice. The file
    NAME.batch beside the pictures remembers what is done. Ctrl-C cancels the jobs that wait.
    """
    lines = _lines(file, kind, {name: value for name, value in defaults.items() if value is not None})
    service = service_of(url)
    with BatchState(out.folder / f"{file.name}{SUFFIX}", anew=again) as state:
        tasks = checked(service, lines, file.parent, state)
        run = BatchRun(service, state, out, tasks, as_json)
        run.draw()
    if as_json:
        print_json(Batch(len(tasks), run.done, len(run.failed), [task.result() for task in tasks]))
    elif run.earlier:
        click.echo(f"{run.earlier} of {len(tasks)} requests were done before.", err=True)
    if run.failed:
        raise PartlyFailed(f"{len(run.failed)} of {len(tasks)} requests failed; the same command tries them again.")


def _lines(file: Path, kind: str | None, defaults: dict[str, Any]) -> list[Line]:
    """The requests of the file. Raises UsageError."""
    try:
        lines = batch_file.read(file.read_bytes(), kind or batch_file.format_of(file))
    except BadLine as wrong:
        raise click.UsageError(f"{file}: {wrong} Nothing was drawn.") from None
    return [Line(line.number, line.n, defaults | line.request) for line in lines]

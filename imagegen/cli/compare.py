"""`imagegen compare`: draw the same prompts with several models. Writes a contact sheet and a table of seconds."""

from __future__ import annotations

import io
import textwrap
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import click
from PIL import Image, ImageDraw, ImageFont

from imagegen.cli import candidates
from imagegen.cli.arguments import InputFile, OutputFile, format_of
from imagegen.cli.client import Service, ServiceError, Unreachable, service_of, url_option
from imagegen.cli.delivery import follow

CELL_PX, LABEL_PX, HEAD_PX, GAP_PX = 256, 220, 28, 8
FONT_PX = 14
LABEL_CHARS = 28
PAPER, INK = "white", "black"


@dataclass(frozen=True)
class Drawn:
    """One model's result for one prompt: a picture or the reason for none. Seconds of the job if it completed."""

    picture: Image.Image | None
    seconds: float | None
    failure: str | None = None
    notes: tuple[str, ...] = ()


NOT_DRAWN = Drawn(None, None, "not drawn")


@click.command()
@click.option(
    "--models",
    required=True,
    shell_complete=candidates.several_models,
    help="Names, separated by commas: see `imagegen models list`.",
)
@click.option(
    "--prompts",
    type=InputFile(),
    help="A file with a prompt a line; default: the six that come with the service.",
)
@click.option("-o", "--output", type=OutputFile(), default="compare.png", show_default=True)
@click.option("--seed", type=int, default=1, show_default=True, help="Of every picture.")
@click.option("-W", "--width", type=int, help="Pixels across; default: each model's.")
@click.option("-H", "--height", type=int, help="Pixels down.")
@click.option("--steps", type=int, help="Sampling steps; default: each model's.")
@click.option("--speed", type=click.Choice(["quality", "fast"]), help="Of every picture; default: quality.")
@url_option
def compare(models: str, prompts: Path | None, output: Path, url: str | None, **options: Any) -> None:
    """Draw the same prompts with several models; write a contact sheet and print the seconds of each picture.

    \b
    imagegen compare --models qwen-image-edit-2511,flux2-klein-4b -o sheet.png
    """
    names = [name for part in models.split(",") if (name := part.strip())]
    lines = _read(prompts)
    request = {name: value for name, value in options.items() if value is not None}
    service = service_of(url)
    _check_names(service, names)
    run = _Run(names, lines)
    ended: BaseException | None = None
    try:
        run.draw(service, request)
    except (Unreachable, KeyboardInterrupt) as end:  # keep the pictures drawn so far
        ended = end
    if run.count:
        click.echo("\n".join(seconds_table(names, lines, run.table)))
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
            sheet(names, lines, run.table).save(output, "JPEG" if format_of(output) == "jpg" else format_of(output))
        except (OSError, ValueError) as failed:
            raise ServiceError(f"{output} cannot be written: {failed}. The service still has the pictures.") from None
        click.echo(str(output))
    if isinstance(ended, KeyboardInterrupt):
        raise click.Abort from None
    if ended is not None:
        raise ended
    failures = [one.failure for column in run.table for one in column if one.failure]
    if failures:
        raise ServiceError(f"{len(failures)} of {len(names) * len(lines)} pictures failed: {failures[0]}")


def _check_names(service: Service, names: list[str]) -> None:
    """Raises ServiceError for a model that the service does not have."""
    known = [model["name"] for model in service.json("GET", "/api/models")["items"]]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        what = f"There is no model {', '.join(unknown)}" if unknown else "--models names none"
        raise ServiceError(f"{what}. The service has: {', '.join(known)}.")


class _Run:
    """The table of results, one column per model. Cells not drawn yet hold NOT_DRAWN."""

    def __init__(self, names: list[str], prompts: list[str]) -> None:
        self._names, self._prompts = names, prompts
        self.table = [[NOT_DRAWN for _ in prompts] for _ in names]
        self.count = 0
        self._said: set[str] = set()

    def draw(self, service: Service, request: dict[str, Any]) -> None:
        """Draw all, loading each model once. Raises Unreachable, KeyboardInterrupt; earlier results stay."""
        for column, name in zip(self.table, self._names, strict=True):
            for index, prompt in enumerate(self._prompts):
                column[index] = one = _draw(service, name, prompt, request)
                self.count += 1
                for note in one.notes:
                    self._note(f"note: {name}: {note}")

    def _note(self, note: str) -> None:
        if note not in self._said:
            self._said.add(note)
            click.echo(note, err=True)


def _read(path: Path | None) -> list[str]:
    """The prompts in a file: its lines, except empty ones and those that begin with #."""
    try:
        source = path or package_files("imagegen.prompts") / "presets" / "compare.txt"
        lines = [line.strip() for line in source.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as broken:
        raise click.ClickException(f"{path} cannot be read as a text: {broken}") from None
    found = [line for line in lines if line and not line.startswith("#")]
    if not found:
        raise click.ClickException(f"{path} has no prompt: write one a line.")
    return found


def _draw(service: Service, model: str, prompt: str, request: dict[str, Any]) -> Drawn:
    """Draw one picture. A refused or failed job becomes a result with its reason, so that the others go on.

    Raises Unreachable, since the others would fail too.
    """
    try:
        job = follow(service, service.json("POST", "/api/generate", json={"prompt": prompt, "model": model} | request))
        notes = tuple(warning["detail"].replace("\n", " ") for warning in job["warnings"])
        if job["status"] != "complete":
            error = job.get("error") or {"detail": "the job was cancelled"}
            return Drawn(None, None, error["detail"], notes)
        picture = Image.open(io.BytesIO(service.call("GET", f"/images/{job['images'][0]['id']}.png").content))
        picture.load()
    except Unreachable:
        raise
    except ServiceError as refused:
        return Drawn(None, None, str(refused))
    started, finished = (datetime.fromisoformat(job[name]) for name in ("started_at", "finished_at"))
    return Drawn(picture.convert("RGB"), (finished - started).total_seconds(), notes=notes)


def seconds_table(names: list[str], prompts: list[str], table: list[list[Drawn]]) -> list[str]:
    """Seconds by prompt and model. The median excludes a model's first picture, which includes the load."""
    rows = [("", *names)]
    for index, prompt in enumerate(prompts):
        rows.append((textwrap.shorten(prompt, 48, placeholder="…"), *(_seconds(column[index]) for column in table)))
    rows.append(("median of all but the first", *(_median(column[1:]) for column in table)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _seconds(one: Drawn) -> str:
    if one is NOT_DRAWN:
        return "-"
    return "failed" if one.seconds is None else f"{one.seconds:.1f} s"


def _median(column: list[Drawn]) -> str:
    known = sorted(one.seconds for one in column if one.seconds is not None)
    if not known:
        return "-"
    middle = len(known) // 2
    return f"{known[middle] if len(known) % 2 else (known[middle - 1] + known[middle]) / 2:.1f} s"


def sheet(names: list[str], prompts: list[str], table: list[list[Drawn]]) -> Image.Image:
    """The contact sheet: a column per model, a row per prompt, the seconds below each picture."""
    font = ImageFont.load_default(FONT_PX)
    row_px = CELL_PX + HEAD_PX + GAP_PX
    size = LABEL_PX + len(names) * (CELL_PX + GAP_PX) + GAP_PX, HEAD_PX + len(prompts) * row_px + GAP_PX
    page = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(page)
    for index, prompt in enumerate(prompts):
        label = textwrap.fill(prompt, LABEL_CHARS)
        pen.multiline_text((GAP_PX, HEAD_PX + GAP_PX + index * row_px), label, INK, font)
    for across, (name, column) in enumerate(zip(names, table, strict=True)):
        left = LABEL_PX + GAP_PX + across * (CELL_PX + GAP_PX)
        pen.text((left, GAP_PX), name, INK, font)
        for down, one in enumerate(column):
            top = HEAD_PX + GAP_PX + down * row_px
            if one.picture is None:
                text = textwrap.fill(one.failure or "", LABEL_CHARS, max_lines=8)
                pen.multiline_text((left, top), text, INK, font)
                continue
            small = one.picture.copy()
            small.thumbnail((CELL_PX, CELL_PX), Image.Resampling.LANCZOS)
            page.paste(small, (left + (CELL_PX - small.width) // 2, top + (CELL_PX - small.height) // 2))
            pen.text((left, top + CELL_PX + 4), _seconds(one), INK, font)
    return page

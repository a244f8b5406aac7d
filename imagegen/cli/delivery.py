"""Follow a job with a progress bar on stderr, print its warnings, and write its pictures."""

from __future__ import annotations

import contextlib
import math
import os
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from imagegen.cli.arguments import STANDARD, format_of, no_new_file_in
from imagegen.cli.client import Service, ServiceError, sentences
from imagegen.cli.show import natural_px
from imagegen_client.answers import JobState, parsed
from imagegen_client.places import portable_name
from imagegen_client.progress import duration
from imagegen_client.watch import Watch

if TYPE_CHECKING:
    from imagegen.cli.terminal.showing import Showing

POLL_S, SAY_EVERY_S = 0.4, 30.0


def check_output(output: Path | None, count: int) -> None:
    """Refuse an output that cannot hold the pictures, before they are drawn. Raises UsageError."""
    if output == Path(STANDARD) and count > 1:
        raise click.UsageError("-o - writes one picture: name a file for several, or leave -n out.")
    if output is None and (problem := no_new_file_in(Path())) is not None:
        raise click.UsageError(f"{problem} Name a file elsewhere with -o.")


def deliver(
    service: Service, job: dict[str, Any], output: Path | None, words: str, showing: Showing | None = None
) -> None:
    """Follow the job to its end, print its warnings, and write its pictures. `words`: for the name of a new file.

    showing: where its previews and pictures are shown. Raises ServiceError, Abort.
    """
    try:
        job = follow(service, job, showing)
    except KeyboardInterrupt:
        raise click.Abort from None
    for warning in job["warnings"]:
        first, _, details = warning["detail"].partition("\n")
        click.echo(f"note: {first}", err=True)
        if details:
            click.echo(f"  {details}", err=True)
    check_complete(job)
    for index, image in enumerate(job["images"]):
        target = _target(output, words, job["job_id"], index, len(job["images"]))
        data = service.call("GET", f"/images/{image['id']}.{format_of(target)}").content
        try:
            _write(target, data)
        except OSError as failed:
            raise ServiceError(
                f"{target} cannot be written: {failed.strerror}. The picture is at {image['url']}"
            ) from None
        seed = "" if image["seed"] is None else f"seed {image['seed']}  "
        said = f"{image['width']}x{image['height']}  {seed}{image['url']}"
        is_standard = target == Path(STANDARD)
        click.echo(said if is_standard else f"{target}  {said}", err=is_standard)
        if showing:
            showing.picture(data)


def _write(target: Path, data: bytes) -> None:
    """Write the file, creating its folder if missing, or standard output. Raises OSError."""
    if target == Path(STANDARD):
        with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as out:
            out.write(data)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def title(service: Service, model: str) -> str:
    """The model's title, which also describes its quality."""
    models = service.json("GET", "/api/models")
    titles = {entry["name"]: entry["title"] for entry in [*models["items"], *models.get("upscalers", [])]}
    return str(titles.get(model, model))


def follow(service: Service, job: dict[str, Any], showing: Showing | None = None) -> dict[str, Any]:
    """Show the job's progress until it ends, also across a restart of the service. Ctrl-C cancels the job.

    showing: where its previews are shown. Raises ServiceError, KeyboardInterrupt.
    """
    try:
        return _shown(service, job, showing)
    except KeyboardInterrupt:
        with contextlib.suppress(ServiceError):
            service.call("DELETE", f"/api/jobs/{job['job_id']}")
        raise


def _shown(service: Service, job: dict[str, Any], showing: Showing | None) -> dict[str, Any]:
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[eta]}"),
        TimeElapsedColumn(),
    )
    said_at = -math.inf
    with sentences(service.url):
        watch = Watch(parsed(JobState, job, "job"), poll_s=0, least_s=POLL_S)
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("queued", total=1.0, eta="")
        try:
            while (update := service.run(watch.next())) is not None:
                if update.trouble:
                    bar.update(task, description=update.text, eta="")
                    continue
                job = update.state.raw
                if update.state.ended:
                    break
                progress = job["progress"] or {}
                eta = "" if job["eta_s"] is None else f"{duration(job['eta_s'])} left"
                bar.update(task, description=_describe(job), completed=progress.get("fraction") or 0.0, eta=eta)
                if showing:
                    showing.preview(console, update.preview, natural_px(job["params"]))
                if bar.disable and progress.get("phase") == "fetching" and time.monotonic() - said_at >= SAY_EVERY_S:
                    said_at = time.monotonic()
                    click.echo(_describe(job), err=True)  # without a bar the terminal would stay silent
        except KeyboardInterrupt:
            bar.update(task, description="interrupted", eta="")
            raise
        finally:
            if showing:
                showing.clear(console)
        bar.update(task, description=outcome(job), completed=1.0 if job["status"] == "complete" else None, eta="")
    return job


def check_complete(job: dict[str, Any]) -> None:
    """Raises ServiceError, with the reason, for a job that ended without its pictures."""
    if job["status"] != "complete":
        error = job.get("error") or {"detail": "The job was cancelled.", "code": "cancelled"}
        raise ServiceError(f"{error['detail']} ({error['code']})")


def outcome(job: dict[str, Any]) -> str:
    """How a job ended, as the bar's last text."""
    if job["status"] == "failed":
        return f"failed: {(job.get('error') or {}).get('code', 'unknown')}"
    return "done" if job["status"] == "complete" else str(job["status"])


def _describe(job: dict[str, Any]) -> str:
    progress = job["progress"]
    if progress is None:
        ahead = job["position"]
        return f"queued, {ahead} ahead" if ahead else "queued"
    if progress.get("steps"):
        what = "writing the picture's tokens" if progress["phase"] == "encoding" else "drawing: step"
        return f"{what} {progress['step']}/{progress['steps']}"
    if progress["phase"] == "upscaling" and progress.get("fraction"):
        return f"enlarging: {progress['fraction']:.0%}"
    if progress["phase"] == "fetching" and progress.get("detail"):
        return f"fetching {progress['detail']}"
    return str(progress["phase"])


def _target(output: Path | None, prompt: str, job_id: str, index: int, count: int) -> Path:
    """-o FILE, or a readable name in the working directory. Numbered if there are several pictures."""
    if output is None:
        words = re.sub(r"[^\w]+", "-", prompt.lower())[:40].strip("-") or "picture"
        output = Path(portable_name(f"{words}-{job_id[:6]}.png"))
    if count == 1:
        return output
    return output.with_name(f"{output.stem}-{index + 1}{output.suffix or '.png'}")

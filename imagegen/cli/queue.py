"""`imagegen jobs | cancel`: the queue."""

from __future__ import annotations

import re

import click

from imagegen.cli import candidates
from imagegen.cli.client import service_of, url_option
from imagegen.cli.output import json_option, print_json

_ID = re.compile(r"[0-9A-Za-z_-]{1,128}")


@click.command()
@click.option("-n", "limit", type=click.IntRange(1, 200), default=20, show_default=True, help="How many.")
@json_option
@url_option
def jobs(limit: int, as_json: bool, url: str | None) -> None:
    """List the newest jobs, the newest first."""
    items = service_of(url).json("GET", "/api/jobs", params={"limit": limit})["items"]
    if as_json:
        print_json(items)
        return
    if not items:
        click.echo("no jobs")
    for job in items:
        what = job["status"]
        if job["position"]:
            what += f", {job['position']} ahead"
        elif job["progress"]:
            what += f", {job['progress']['phase']}"
        elif job.get("error"):
            what += f": {job['error']['code']}"
        prompt = job["prompt"].replace("\n", " ")
        shown = prompt if len(prompt) <= 50 else prompt[:49] + "…"
        click.echo(f"{job['job_id']}  {job['created_at']}  {what:<24}  {shown}")


@click.command()
@click.argument("job_id", required=False, shell_complete=candidates.unfinished_jobs)
@click.option("--all", "everything", is_flag=True, help="Cancel all jobs of yours that wait; the running one goes on.")
@json_option
@url_option
def cancel(job_id: str | None, everything: bool, as_json: bool, url: str | None) -> None:
    """Cancel a queued or running job, or all that wait.

    \b
    imagegen cancel 3f0a…9c
    imagegen cancel --all
    """
    if (job_id is None) is not everything:
        raise click.UsageError("Name a job, or give --all, and not both. `imagegen jobs` lists the jobs.")
    if job_id is not None and not _ID.fullmatch(job_id):  # a slash would name another route
        raise click.UsageError(f"{job_id!r} is no job's id. `imagegen jobs` lists the jobs.")
    service = service_of(url)
    if job_id is None:
        jobs = service.json("DELETE", "/api/jobs", params={"status": "queued"})["items"]
    else:
        jobs = [service.json("DELETE", f"/api/jobs/{job_id}")]
    if as_json:
        print_json(jobs)
        return
    if not jobs:
        click.echo("no job waits")
    for job in jobs:
        click.echo(f"{job['job_id']}  {job['status']}")

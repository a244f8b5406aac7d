"""`imagegen jobs | cancel`: the queue."""

from __future__ import annotations

import json

import click

from imagegen.cli import candidates
from imagegen.cli.client import service_of, url_option


@click.command()
@click.option("-n", "limit", type=click.IntRange(1, 200), default=20, show_default=True, help="How many.")
@click.option("--json", "as_json", is_flag=True, help="Print the service's own JSON.")
@url_option
def jobs(limit: int, as_json: bool, url: str | None) -> None:
    """List the newest jobs, the newest first."""
    items = service_of(url).json("GET", "/api/jobs", params={"limit": limit})["items"]
    if as_json:
        click.echo(json.dumps(items, indent=2))
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
@click.argument("job_id", shell_complete=candidates.unfinished_jobs)
@url_option
def cancel(job_id: str, url: str | None) -> None:
    """Cancel a queued or running job."""
    job = service_of(url).json("DELETE", f"/api/jobs/{job_id}")
    click.echo(f"{job['job_id']}  {job['status']}")

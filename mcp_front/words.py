"""A job in sentences: what was drawn, how it ended, what the service warns of."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from imagegen_client.progress import describe
from mcp_front.answers import Job, Said
from mcp_front.facts import NOT_WHAT_WAS_ASKED, wrong_pictures


def headline(job: Job) -> str:
    """What was drawn: how many pictures, their size, the model, how long it took."""
    first = job.images[0] if job.images else None
    size = f": {first.width} x {first.height} px" if first else ""
    if first and first.seed is not None:
        size += f", seed {first.seed}"
    verb = {"edit": "Edited", "upscale": "Enlarged"}.get(job.kind, "Drew")
    many = "1 picture" if len(job.images) == 1 else f"{len(job.images)} pictures"
    return f"{verb} {many}{size}, model {job.model}{_took(job)} (job {job.job_id})."


def unfinished(job: Job) -> list[str]:
    """The line about a job that has some of its pictures and not all. Empty for a complete job."""
    if job.status == "complete":
        return []
    wanted = int(job.params.get("n") or 1)
    finished = f"{len(job.images)} of {wanted} pictures {'is' if len(job.images) == 1 else 'are'} finished"
    if not job.ended:
        return [f"{finished}; the job goes on: {describe(job)}."]
    return [f"{finished}. {why_no_picture(job)}"]


def finished_so_far(job: Job) -> list[str]:
    """The line that names the finished pictures of a job that goes on or was ended early."""
    named = ", ".join(f"picture {number} is {one.id}" for number, one in enumerate(job.images, start=1))
    return [f"Finished so far: {named}. get_job_result shows them."] if named else []


def _took(job: Job) -> str:
    try:
        took = datetime.fromisoformat(job.finished_at or "") - datetime.fromisoformat(job.started_at or "")
    except ValueError:
        return ""
    return f", {took.total_seconds():.1f} s"


def until(expires_at: str | None) -> str:
    """The expiry of a picture in brackets. Empty if it has none or the time cannot be parsed."""
    try:
        moment = datetime.fromisoformat(expires_at or "").astimezone(UTC)
    except ValueError:
        return ""
    return f" (until {moment:%Y-%m-%d %H:%M} UTC)"


def first_lines(job: Job) -> list[str]:
    """The lines that come first: a picture that does not show what was asked for is no success."""
    return [f"{' '.join(warning.first_line.split())} Tell the user so." for warning in wrong_pictures(job)]


def later(job: Job) -> list[Said]:
    """The warnings without the lines that `first_lines` returns. A blank picture's details remain."""
    left = []
    for warning in job.warnings:
        if warning.code not in NOT_WHAT_WAS_ASKED:
            left.append(warning)
        elif warning.details:
            left.append(Said(code=warning.code, detail=warning.details))
    return left


def notes(warnings: Iterable[Said]) -> list[str]:
    """Each warning on one line."""
    return [f"Note: {' '.join(warning.detail.split())}" for warning in warnings]


def why_no_picture(job: Job) -> str:
    """Why a failed or cancelled job has no picture, or not all of them."""
    if job.status == "cancelled":
        why = f" {job.error.detail}" if job.error else ""
        lacking = "the other pictures were not drawn" if job.images else "there is no picture"
        return f"Job {job.job_id} was cancelled, so {lacking}.{why} If it is wanted, ask for it again."
    why = job.error.detail if job.error else "The service gave no reason; its log has more."
    return f"Job {job.job_id} failed: {why}"

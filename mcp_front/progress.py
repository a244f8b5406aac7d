"""What the front reports of a job's progress: a number that only grows, and when to ask again."""

from __future__ import annotations

from imagegen_client.progress import percent
from mcp_front.answers import Job

SMALLEST_ADVANCE = 0.01
"""MCP requires every progress notification to be greater than the one before."""


def poll_s(job: Job) -> int:
    """The interval for polling the job in seconds: a tenth of the time left, 5 to 300."""
    left = job.eta_s
    if left is None and job.progress is not None:
        left = job.progress.left_s
    return 5 if left is None else min(300, max(5, round(left / 10)))


def advance(last: float, job: Job) -> float:
    """The next number to report after `last`: larger than `last`, at most 100, with two decimal places."""
    return min(100.0, round(max(percent(job), last + SMALLEST_ADVANCE), 2))

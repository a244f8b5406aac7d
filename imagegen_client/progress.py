"""The progress of a job, as text and as a number that only grows."""

from __future__ import annotations

from imagegen_client.answers import JobState

_PHASES = {
    "fetching": ("downloading the model's files", 0.0, 0.0),
    "waiting_gpu": ("waiting for GPU memory that another program holds", 0.0, 0.0),
    "loading": ("loading the model", 0.0, 30.0),
    "encoding": ("reading the prompt", 30.0, 35.0),
    "sampling": ("drawing", 35.0, 95.0),
    "upscaling": ("enlarging the picture", 30.0, 98.0),
    "decoding": ("finishing the picture", 95.0, 98.0),
    "saving": ("saving the picture", 98.0, 99.0),
}
"""Each phase's text, and where it starts and ends on a one-picture job's bar, in percent."""


def describe(job: JobState) -> str:
    """The job's progress as text: `loading the model 40 %`, `drawing: step 7/25, about 12 s left`."""
    if job.status == "queued":
        ahead = f", {job.position} ahead of it" if job.position else ""
        return f"waiting in the queue{ahead}{_left(job)}"
    if job.status != "running":
        return job.status
    now = job.progress
    if now is None:
        return f"starting{_left(job)}"
    if now.step is not None and now.steps:
        what = "writing the picture's tokens" if now.phase == "encoding" else "drawing: step"
        words = f"{what} {now.step}/{now.steps}"
    else:
        words = _PHASES.get(now.phase, (now.phase, 0.0, 0.0))[0]
        if now.fraction is not None:
            words += f" {now.fraction * 100:.0f} %"
        if now.phase == "fetching" and now.detail:
            return f"{words} ({now.detail})"  # file, bytes, rate and time left, as the service writes them
    pictures = int(job.params.get("n") or 1)
    which = f"picture {now.image} of {pictures}: " if pictures > 1 else ""
    return f"{which}{words}{_left(job)}"


def _left(job: JobState) -> str:
    return f", about {duration(job.eta_s)} left" if job.eta_s and job.eta_s >= 1 else ""


def duration(seconds: float) -> str:
    """Seconds below two minutes, minutes below two hours, then hours: `35 min`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def percent(job: JobState) -> float:
    """The part of the job that is done, 0..100. A queued job is at 0."""
    if job.ended:
        return 100.0
    now = job.progress
    if now is None:
        return 0.0
    _, start, end = _PHASES.get(now.phase, ("", 0.0, 0.0))
    of_phase = now.step / now.steps if now.step is not None and now.steps else now.fraction or 0.0
    of_picture = start + (end - start) * min(1.0, max(0.0, of_phase))
    pictures = max(1, int(job.params.get("n") or 1))
    return (100.0 * (now.image - 1) + of_picture) / pictures

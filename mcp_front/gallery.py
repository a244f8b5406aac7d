"""Search of the pictures of complete jobs by words in their prompts."""

from __future__ import annotations

from pydantic import BaseModel

from mcp_front.answers import Job
from mcp_front.client import Service
from mcp_front.words import until

PAGE = 200
LEAST_PAGE = 20
MAX_PAGES = 5
"""Limits a search to the newest 1,000 jobs."""

MAX_PROMPT_CHARS = 160


class FoundImage(BaseModel):
    """A picture of a complete job; `expires_at` is None for one that is kept."""

    image_id: str
    width: int
    height: int
    seed: int | None
    model: str
    prompt: str
    expires_at: str | None

    @property
    def line(self) -> str:
        seed = "" if self.seed is None else f", seed {self.seed}"
        kept = until(self.expires_at) or " (kept)"
        words = " ".join(self.prompt.split())
        short = words if len(words) <= MAX_PROMPT_CHARS else f"{words[:MAX_PROMPT_CHARS]}…"
        return f"{self.image_id}: {self.width} x {self.height} px{seed}, model {self.model}{kept}: {short}"


async def found_images(service: Service, query: str | None, limit: int) -> tuple[list[FoundImage], bool]:
    """At most `limit` pictures whose prompt contains every word of `query`.

    The second value is False if MAX_PAGES ended the search before all jobs were read. Raises ServiceError.
    """
    words = (query or "").casefold().split()
    found: list[FoundImage] = []
    before: int | None = None
    for _ in range(MAX_PAGES):
        jobs, before = await service.jobs(PAGE if words else max(limit, LEAST_PAGE), before)
        found += [image for job in jobs if _matches(job, words) for image in _images(job)]
        if before is None or len(found) >= limit:
            return found[:limit], True
    return found[:limit], False


def _matches(job: Job, words: list[str]) -> bool:
    prompt = job.prompt.casefold()
    return job.status == "complete" and all(word in prompt for word in words)


def _images(job: Job) -> list[FoundImage]:
    return [
        FoundImage(
            image_id=one.id,
            width=one.width,
            height=one.height,
            seed=one.seed,
            model=job.model,
            prompt=job.prompt[:1000],
            expires_at=job.expires_at,
        )
        for one in job.images
    ]

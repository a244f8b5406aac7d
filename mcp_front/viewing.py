"""The tools of the picture view, which models do not see: parts of a file, a running job, a painted mask."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from fastmcp import Context
from fastmcp.exceptions import ToolError
from fastmcp.tools import ToolResult
from mcp_types import TextContent
from pydantic import BaseModel

from imagegen_client.progress import describe
from mcp_front.answers import Job
from mcp_front.arguments import Chunk, Follow, Mask
from mcp_front.client import Service
from mcp_front.references import is_picture

NEWEST_JOBS = 20
"""Among this many jobs the view finds the one that it shows."""


class ChunkFacts(BaseModel):
    """A part of a file: base64 of the bytes from `offset` to before `next`, of `total`."""

    data: str
    offset: int
    next: int
    total: int


class FinishedFacts(BaseModel):
    """A finished picture of a job that the view follows."""

    image_id: str
    width: int
    height: int
    seed: int | None


class PreviewFacts(BaseModel):
    """A picture in progress: its number, and a JPEG in base64."""

    image: int
    data: str


class JobFacts(BaseModel):
    """A job that the view follows; `job_id` is None if there is none."""

    job_id: str | None = None
    status: str | None = None
    says: str = ""
    n: int = 1
    images: list[FinishedFacts] = []
    preview: PreviewFacts | None = None


class MaskFacts(BaseModel):
    """A stored mask."""

    image_id: str


class ViewTools:
    """Each public method is a tool. All answer with structured content, because only the view calls them."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def read_image_chunk(self, _: Context, asked: Chunk) -> ToolResult:
        """Read a part of a picture's PNG, for the view."""
        png = await self._service.picture(asked.image_id)
        offset, part = asked.offset, png[asked.offset : asked.offset + asked.length]
        chunk = ChunkFacts(data=base64.b64encode(part).decode(), offset=offset, next=offset + len(part), total=len(png))
        return _answer(f"{len(part)} bytes from {offset} of {len(png)}", chunk)

    async def read_job(self, _: Context, asked: Follow) -> ToolResult:
        """Read a job, or the newest job with this prompt that has not ended, and its newest preview.

        A view is told the prompt before the tool has a result, so it knows no job id then.
        """
        job = await self._service.job(asked.job_id) if asked.job_id else await self._find(asked.prompt or "")
        if job is None:
            return _answer("There is no such job yet.", JobFacts())
        forming = None if job.preview is None else await self._service.forming(job)
        facts = JobFacts(
            job_id=job.job_id,
            status=job.status,
            says=describe(job),
            n=int(job.params.get("n") or 1),
            images=[
                FinishedFacts(image_id=one.id, width=one.width, height=one.height, seed=one.seed) for one in job.images
            ],
            preview=None
            if forming is None
            else PreviewFacts(image=forming.image, data=base64.b64encode(forming.bytes).decode()),
        )
        return _answer(facts.says, facts)

    async def upload_mask(self, _: Context, asked: Mask) -> ToolResult:
        """Store a mask that the user painted in the view."""
        try:
            file = base64.b64decode(asked.data, validate=True)
        except binascii.Error:
            file = b""
        if not is_picture(file):
            raise ToolError("Nothing was stored: data is not a picture in base64.")
        return _answer("The mask is stored.", MaskFacts(image_id=await self._service.upload(file)))

    async def _find(self, prompt: str) -> Job | None:
        jobs, _ = await self._service.jobs(NEWEST_JOBS)
        return next((job for job in jobs if not job.ended and job.prompt == prompt), None)


def _answer(text: str, facts: BaseModel) -> ToolResult:
    known: dict[str, Any] = facts.model_dump(mode="json")
    return ToolResult(content=[TextContent(text=text)], structured_content=known)

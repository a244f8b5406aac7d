"""The tools: what an agent can do with the image service, each a typed method."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import anyio
from fastmcp import Context
from fastmcp.exceptions import ToolError
from fastmcp.tools import ToolResult
from mcp_types import TextContent
from pydantic import BaseModel

from mcp_front import references
from mcp_front.answers import Job
from mcp_front.arguments import Chunk, Drawing, Edit, JobArguments, Nothing, Submit
from mcp_front.client import Service
from mcp_front.paths import BadReference
from mcp_front.results import UI_EXTENSION_ID, Results
from mcp_front.settings import Settings
from mcp_front.templates import Template
from mcp_front.waiting import LEASE_S, CancelNotices, cancelling, reports_progress, until_ended, until_news

STATUS_WAIT_S = 45.0


class ChunkFacts(BaseModel):
    """A part of a file: base64 of the bytes from `offset` to before `next`, of `total`."""

    data: str
    offset: int
    next: int
    total: int


class TemplateList(BaseModel):
    """The service's prompt templates."""

    templates: list[Template]
    next_step: str


class Tools:
    """What an agent can do. Each method is a tool; `texts` has the descriptions agents read."""

    def __init__(self, service: Service, settings: Settings, notices: CancelNotices, *, local: bool) -> None:
        self._service, self._settings, self._notices, self._local = service, settings, notices, local
        self._results = Results(service, settings, saves=local)

    async def generate_image(self, ctx: Context, asked: Drawing) -> ToolResult:
        """Draw a picture and wait for it."""
        return await self._draw(ctx, asked.body)

    async def edit_image(self, ctx: Context, asked: Edit) -> ToolResult:
        """Change a picture and wait for it."""
        return await self._draw(ctx, asked.body, asked.images)

    async def submit_async_job(self, ctx: Context, asked: Submit) -> ToolResult:
        """Ask for a picture and return its job id."""
        job = await self._submit(asked.body, asked.images)
        return self._results.going_on(job, structured=has_view(ctx))

    async def get_job_status(self, ctx: Context, asked: JobArguments) -> ToolResult:
        """Say how far a job is, after news or 45 s."""
        deadline = anyio.current_time() + min(STATUS_WAIT_S, self._budget_s(ctx))
        job = await until_news(self._service, await self._service.job(asked.job_id), deadline, ctx)
        return self._results.going_on(job, structured=has_view(ctx))

    async def get_job_result(self, ctx: Context, asked: JobArguments) -> ToolResult:
        """Fetch the picture of a complete job."""
        job = await self._service.job(asked.job_id)
        if job.ended:
            return await self._results.finished(job, structured=has_view(ctx))
        return self._results.going_on(job, structured=has_view(ctx))

    async def cancel_job(self, ctx: Context, asked: JobArguments) -> ToolResult:
        """Stop a job."""
        return self._results.cancelled(await self._service.cancel(asked.job_id), structured=has_view(ctx))

    async def list_templates(self, ctx: Context, _: Nothing) -> ToolResult:
        """List the prompt templates."""
        templates = await self._service.templates()
        lines = [line for template in templates for line in template.lines()]
        text = "\n".join(["Prompt templates. Fill what is in braces, then pass the text to generate_image:", *lines])
        facts = TemplateList(templates=templates, next_step="Fill one in, then draw it.")
        return self._results.said(text, facts.model_dump(mode="json"), structured=has_view(ctx))

    async def read_image_chunk(self, _: Context, asked: Chunk) -> ToolResult:
        """Read a part of a picture's PNG, for the view."""
        png = await self._service.picture(asked.image_id)
        offset, part = asked.offset, png[asked.offset : asked.offset + asked.length]
        chunk = ChunkFacts(data=base64.b64encode(part).decode(), offset=offset, next=offset + len(part), total=len(png))
        text = f"{len(part)} bytes from {offset} of {len(png)}"
        return ToolResult(content=[TextContent(text=text)], structured_content=chunk.model_dump())

    async def _draw(self, ctx: Context, body: dict[str, Any], images: Sequence[str] | None = None) -> ToolResult:
        deadline = anyio.current_time() + self._budget_s(ctx)
        job = await self._submit({**body, "lease_s": LEASE_S}, images)
        async with cancelling(self._service, job.job_id, ctx, self._notices):
            job = await until_ended(self._service, job, deadline, ctx)
            if job.ended:
                return await self._results.finished(job, structured=has_view(ctx))
            await self._service.drop_lease(job.job_id)
        return self._results.going_on(job, structured=has_view(ctx))

    async def _submit(self, body: dict[str, Any], images: Sequence[str] | None) -> Job:
        if images:
            body = {**body, "images": [await self._reference(image) for image in images]}
        return await self._service.submit(body)

    async def _reference(self, reference: str) -> str:
        """An image id of the service: the one named, or that of an uploaded local file."""
        if found := references.image_id(reference, self._settings.download_base):
            return found
        if not self._local:
            raise ToolError(
                f"{reference[:200]!r} is not an image id. This MCP server does not run on the user's "
                "machine, so it takes image ids from earlier results, or from an upload: POST the file to "
                f"{self._settings.download_base}/api/images."
            )
        try:
            return await self._service.upload(await references.load(reference))
        except BadReference as unusable:
            raise ToolError(str(unusable)) from None

    def _budget_s(self, ctx: Context) -> float:
        return self._settings.call_budget_s(reports_progress=reports_progress(ctx))


def has_view(ctx: Context) -> bool:
    return ctx.client_supports_extension(UI_EXTENSION_ID)

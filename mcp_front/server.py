"""The tools: what an agent can do with the image service, each a typed method."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import anyio
from fastmcp import Context
from fastmcp.exceptions import ToolError
from fastmcp.tools import ToolResult
from mcp_types import TextContent
from pydantic import BaseModel, Field

from mcp_front import references
from mcp_front.client import Job, Service
from mcp_front.paths import BadReference
from mcp_front.prompts import Template, fetch
from mcp_front.results import UI_EXTENSION_ID, Results
from mcp_front.settings import Settings
from mcp_front.waiting import LEASE_S, CancelNotices, cancelling, reports_progress, until_ended, until_news

STATUS_WAIT_S = 45.0
CHUNK_BYTES = 600_000
"""800,000 characters as base64: under Claude Desktop's cap for a result."""

PromptText = Annotated[str, Field(description="What to draw.", min_length=1, max_length=12_000)]
EditText = Annotated[str, Field(description="What to change, and what to keep.", min_length=1, max_length=12_000)]
References = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=4096)]],
    Field(description="Image ids, or paths of local picture files.", min_length=1, max_length=16),
]
Negative = Annotated[str | None, Field(description="What must not be in the picture.", max_length=12_000)]
Side = Annotated[int | None, Field(description="Pixels; the service usually allows up to 1024 a side.", ge=64, le=4096)]
Steps = Annotated[int | None, Field(description="Sampling steps: more is slower.", ge=1, le=100)]
Seed = Annotated[int | None, Field(description="The same seed gives the same picture.", ge=0, le=2**32 - 1)]
CfgScale = Annotated[float | None, Field(description="Guidance; the model's default is best.", ge=0, le=30)]
Sampler = Annotated[str | None, Field(description="The model's default is best.", max_length=64)]
Model = Annotated[str | None, Field(description="A model of the service's catalog.", max_length=128)]
Speed = Annotated[
    Literal["quality", "fast"] | None,
    Field(description="fast saves time at some cost of quality; some models refuse it. Default: quality."),
]
Count = Annotated[int, Field(description="How many pictures, with seeds that follow each other.", ge=1, le=4)]
JobId = Annotated[str, Field(description="The job id that a tool answered with.", min_length=1, max_length=128)]


class Chunk(BaseModel):
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

    async def generate_image(
        self,
        ctx: Context,
        prompt: PromptText,
        negative: Negative = None,
        width: Side = None,
        height: Side = None,
        steps: Steps = None,
        seed: Seed = None,
        cfg_scale: CfgScale = None,
        sampler: Sampler = None,
        model: Model = None,
        speed: Speed = None,
        n: Count = 1,
    ) -> ToolResult:
        """Draw a picture and wait for it."""
        body = _asked(prompt, negative, width, height, steps, seed, cfg_scale, sampler, model, speed, n)
        return await self._draw(ctx, body)

    async def edit_image(
        self,
        ctx: Context,
        prompt: EditText,
        images: References,
        negative: Negative = None,
        width: Side = None,
        height: Side = None,
        steps: Steps = None,
        seed: Seed = None,
        cfg_scale: CfgScale = None,
        sampler: Sampler = None,
        model: Model = None,
        speed: Speed = None,
        n: Count = 1,
    ) -> ToolResult:
        """Change a picture and wait for it."""
        body = _asked(prompt, negative, width, height, steps, seed, cfg_scale, sampler, model, speed, n)
        return await self._draw(ctx, body, images)

    async def submit_async_job(
        self,
        ctx: Context,
        prompt: PromptText,
        images: References | None = None,
        negative: Negative = None,
        width: Side = None,
        height: Side = None,
        steps: Steps = None,
        seed: Seed = None,
        cfg_scale: CfgScale = None,
        sampler: Sampler = None,
        model: Model = None,
        speed: Speed = None,
        n: Count = 1,
    ) -> ToolResult:
        """Ask for a picture and return its job id."""
        body = _asked(prompt, negative, width, height, steps, seed, cfg_scale, sampler, model, speed, n)
        job = await self._submit(body, images)
        return self._results.going_on(job, structured=has_view(ctx))

    async def get_job_status(self, ctx: Context, job_id: JobId) -> ToolResult:
        """Say how far a job is, after news or 45 s."""
        deadline = anyio.current_time() + min(STATUS_WAIT_S, self._budget_s(ctx))
        job = await until_news(self._service, await self._service.job(job_id), deadline, ctx)
        return self._results.going_on(job, structured=has_view(ctx))

    async def get_job_result(self, ctx: Context, job_id: JobId) -> ToolResult:
        """Fetch the picture of a complete job."""
        job = await self._service.job(job_id)
        if job.ended:
            return await self._results.finished(job, structured=has_view(ctx))
        return self._results.going_on(job, structured=has_view(ctx))

    async def cancel_job(self, ctx: Context, job_id: JobId) -> ToolResult:
        """Stop a job."""
        return self._results.cancelled(await self._service.cancel(job_id), structured=has_view(ctx))

    async def list_templates(self, ctx: Context) -> ToolResult:
        """List the prompt templates."""
        templates = await fetch(self._service)
        lines = [line for template in templates for line in template.lines()]
        text = "\n".join(["Prompt templates. Fill what is in braces, then pass the text to generate_image:", *lines])
        facts = TemplateList(templates=templates, next_step="Fill one in, then draw it.")
        return self._results.said(text, facts.model_dump(mode="json"), structured=has_view(ctx))

    async def read_image_chunk(
        self,
        image_id: Annotated[str, Field(max_length=128)],
        offset: Annotated[int, Field(ge=0)] = 0,
        length: Annotated[int, Field(ge=1, le=CHUNK_BYTES)] = CHUNK_BYTES,
    ) -> ToolResult:
        """Read a part of a picture's PNG, for the view."""
        png = await self._service.picture(image_id)
        part = png[offset : offset + length]
        chunk = Chunk(data=base64.b64encode(part).decode(), offset=offset, next=offset + len(part), total=len(png))
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


def _asked(
    prompt: str,
    negative: str | None,
    width: int | None,
    height: int | None,
    steps: int | None,
    seed: int | None,
    cfg_scale: float | None,
    sampler: str | None,
    model: str | None,
    speed: str | None,
    n: int,
) -> dict[str, Any]:
    """The request's body: what was left out is left to the model's catalog entry."""
    given = {
        "prompt": prompt,
        "negative": negative,
        "width": width,
        "height": height,
        "steps": steps,
        "seed": seed,
        "cfg_scale": cfg_scale,
        "sampler": sampler,
        "model": model,
        "speed": speed,
        "n": n,
    }
    return {name: value for name, value in given.items() if value is not None}

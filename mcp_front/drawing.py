"""The tools that draw, change and enlarge pictures, and those that read or cancel a job."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import anyio
from fastmcp import Context
from fastmcp.tools import ToolResult

from mcp_front.answers import Job
from mcp_front.arguments import Drawing, Edit, Generate, OneJob, Submit, Upscale, Vary
from mcp_front.client import Service
from mcp_front.results import Results, has_view
from mcp_front.settings import Settings
from mcp_front.sources import Sources
from mcp_front.waiting import LEASE_S, CancelNotices, cancelling, reports_progress, until_ended, until_news

STATUS_WAIT_S = 45.0


class DrawingTools:
    """Each public method is a tool; `texts` has the descriptions that agents read."""

    def __init__(
        self, service: Service, settings: Settings, notices: CancelNotices, sources: Sources, results: Results
    ) -> None:
        self._service, self._settings, self._notices = service, settings, notices
        self._sources, self._results = sources, results

    async def generate_image(self, ctx: Context, asked: Generate) -> ToolResult:
        """Draw pictures; wait for them unless `wait` is false."""
        return await self._ask(ctx, asked, wait=asked.wait)

    async def edit_image(self, ctx: Context, asked: Edit) -> ToolResult:
        """Change pictures; wait for the result unless `wait` is false."""
        pictures = await self._sources.pictures(ctx, asked.images, asked.mask)
        return await self._ask(ctx, asked, pictures, wait=asked.wait)

    async def submit_async_job(self, ctx: Context, asked: Submit) -> ToolResult:
        """generate_image or edit_image that does not wait."""
        return await self._ask(ctx, asked, await self._sources.pictures(ctx, asked.images or []), wait=False)

    async def upscale_image(self, ctx: Context, asked: Upscale) -> ToolResult:
        """Make a larger copy of a picture and wait for it."""
        (image,) = (await self._sources.pictures(ctx, [asked.image]))["images"]
        body = {"image": image, "factor": asked.factor, "lease_s": LEASE_S}
        return await self._finish(ctx, self._service.upscale(body), leased=True)

    async def get_job_status(self, ctx: Context, asked: OneJob) -> ToolResult:
        """Report a job's state once it changes, or after 45 s."""
        deadline = anyio.current_time() + min(STATUS_WAIT_S, self._budget_s(ctx))
        job = await until_news(self._service, await self._service.job(asked.job_id), deadline, ctx)
        return self._results.going_on(job, structured=has_view(ctx))

    async def get_job_result(self, ctx: Context, asked: OneJob) -> ToolResult:
        """Fetch the finished pictures of a job."""
        job = await self._service.job(asked.job_id)
        return await self._result(ctx, job)

    async def vary_image(self, _: Context, asked: Vary) -> ToolResult:
        """Draw more pictures like one, without waiting for them."""
        job = await self._service.vary({"image": asked.image_id, "n": asked.n, "preview": "auto"})
        return self._results.going_on(job, structured=True)

    async def cancel_job(self, ctx: Context, asked: OneJob) -> ToolResult:
        """Stop a job."""
        return self._results.cancelled(await self._service.cancel(asked.job_id), structured=has_view(ctx))

    async def _ask(
        self, ctx: Context, asked: Drawing, pictures: dict[str, Any] | None = None, *, wait: bool
    ) -> ToolResult:
        body = {**asked.body, **(pictures or {})}
        if not asked.anyway and (checked := await self._service.check(body)) and not checked.draws_it:
            return self._results.not_drawn(checked, asked.prompt, structured=has_view(ctx))
        body |= {"preview": "auto"} if has_view(ctx) else {}
        if wait:
            return await self._finish(ctx, self._service.submit({**body, "lease_s": LEASE_S}), leased=True)
        return self._results.going_on(await self._service.submit(body), structured=has_view(ctx))

    async def _finish(self, ctx: Context, submission: Awaitable[Job], *, leased: bool = False) -> ToolResult:
        """Submit and wait for the pictures. Returns the unfinished job when the call's time is up."""
        deadline = anyio.current_time() + self._budget_s(ctx)
        job = await submission
        async with cancelling(self._service, job.job_id, ctx, self._notices):
            job = await until_ended(self._service, job, deadline, ctx)
            if not job.ended and leased:
                await self._service.drop_lease(job.job_id)
            return await self._result(ctx, job)

    async def _result(self, ctx: Context, job: Job) -> ToolResult:
        """The job's finished pictures, or how far it is."""
        if job.ended or job.images:
            return await self._results.finished(job, structured=has_view(ctx))
        return self._results.going_on(job, structured=has_view(ctx))

    def _budget_s(self, ctx: Context) -> float:
        return self._settings.call_budget_s(reports_progress=reports_progress(ctx))

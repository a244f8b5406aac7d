"""Puts the server together: tools, view, resources, prompts and middleware."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any

import anyio
import mcp_types
from fastmcp import FastMCP
from fastmcp.apps import AppConfig
from fastmcp.exceptions import ResourceError
from fastmcp.server.dependencies import get_http_headers
from mcp_types import ToolAnnotations

from mcp_front import __version__, texts
from mcp_front.answers import ServiceError
from mcp_front.arguments import Drawing
from mcp_front.client import Service
from mcp_front.connection import Connection
from mcp_front.middleware import Limits, SchemasForViews, Warming
from mcp_front.prompts import MAX_COMPLETIONS, TemplatePrompts
from mcp_front.results import Facts
from mcp_front.server import ChunkFacts, TemplateList, Tools
from mcp_front.settings import Settings
from mcp_front.tool import Handler, TypedTool
from mcp_front.waiting import CancelNotices

VIEW_URI = "ui://imagegen/picture.html"


def build(settings: Settings, *, local: bool) -> FastMCP:
    """The server. `local`: it runs on the person's machine, so it saves files and reads references."""
    notices = CancelNotices()
    bearer = (lambda: settings.token) if local else _callers_bearer
    shut = not local and not settings.loopback_only and not settings.allow_anonymous
    service = Service(Connection(settings, bearer, must_be_locked=shut))
    templates = TemplatePrompts(service)

    @asynccontextmanager
    async def lifespan(_: FastMCP) -> AsyncIterator[None]:
        try:
            yield
        finally:
            with anyio.CancelScope(shield=True):
                await service.aclose()

    mcp = FastMCP(
        "imagegen",
        version=__version__,
        instructions=texts.INSTRUCTIONS,
        lifespan=lifespan,
        mask_error_details=True,
        providers=[templates],
        middleware=[
            notices,
            SchemasForViews(),
            Limits(service),
            *([Warming(service)] if settings.warm else []),
        ],
    )
    _add_tools(mcp, Tools(service, settings, notices, local=local))
    _add_resources(mcp, service)
    _add_completion(mcp, service, templates)
    return mcp


def _add_tools(mcp: FastMCP, tools: Tools) -> None:
    picture_view = AppConfig(resource_uri=VIEW_URI)
    draws = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False)
    reads = ToolAnnotations(read_only_hint=True, open_world_hint=False)
    saves = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
    ends = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False)

    def add(method: Handler[Any], title: str, description: str, annotations: ToolAnnotations, **more: Any) -> None:
        more = {"facts": Facts, **more}
        mcp.add_tool(TypedTool.of(method, title=title, description=description, annotations=annotations, **more))

    add(tools.generate_image, "Draw a picture", texts.GENERATE_IMAGE, draws, app=picture_view)
    add(tools.edit_image, "Edit a picture", texts.EDIT_IMAGE, draws, app=picture_view, known=Drawing)
    add(tools.submit_async_job, "Draw in the background", texts.SUBMIT_ASYNC_JOB, draws, known=Drawing)
    add(tools.get_job_status, "How far is a job", texts.GET_JOB_STATUS, reads)
    add(tools.get_job_result, "Fetch a picture", texts.GET_JOB_RESULT, saves, app=picture_view)
    add(tools.cancel_job, "Cancel a job", texts.CANCEL_JOB, ends)
    add(tools.list_templates, "Prompt templates", texts.LIST_TEMPLATES, reads, facts=TemplateList)
    app_only = AppConfig(resource_uri=VIEW_URI, visibility=["app"])
    add(tools.read_image_chunk, "Read a picture's bytes", texts.READ_IMAGE_CHUNK, reads, facts=ChunkFacts, app=app_only)


def _add_resources(mcp: FastMCP, service: Service) -> None:
    @mcp.resource(VIEW_URI, name="picture view", app=AppConfig(prefers_border=False))
    def view() -> str:
        """The picture inline, for hosts that render MCP Apps."""
        return resources.files("mcp_front").joinpath("view.html").read_text(encoding="utf-8")

    @mcp.resource("image://{image_id}/full.png", mime_type="image/png")
    async def full(image_id: str) -> bytes:
        """A picture in full resolution."""
        try:
            return await service.picture(image_id)
        except ServiceError as failed:
            raise ResourceError(str(failed)) from None


def _add_completion(mcp: FastMCP, service: Service, templates: TemplatePrompts) -> None:
    @mcp.completion
    async def complete(
        ref: mcp_types.PromptReference | mcp_types.ResourceTemplateReference,
        argument: mcp_types.CompletionArgument,
        _: mcp_types.CompletionContext | None,
    ) -> list[str]:
        if isinstance(ref, mcp_types.PromptReference):
            return await templates.complete(ref.name, argument)
        if argument.name != "image_id":
            return []
        recent = await service.recent_images(limit=MAX_COMPLETIONS)
        return [found.id for found in recent if found.id.startswith(argument.value)]


def _callers_bearer() -> str | None:
    """The token of the HTTP request in hand; the front has none of its own."""
    scheme, _, token = get_http_headers(include={"authorization"}).get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None

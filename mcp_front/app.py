"""Build the server from tools, view, resources, prompts and middleware."""

from __future__ import annotations

import base64
import re
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
from pydantic import TypeAdapter

from mcp_front import __version__, texts
from mcp_front.answers import ServiceError
from mcp_front.arguments import Generate
from mcp_front.client import Service
from mcp_front.connection import Connection
from mcp_front.door import bearer_of
from mcp_front.drawing import DrawingTools
from mcp_front.facts import Facts
from mcp_front.gallery import FoundImage, found_images
from mcp_front.lists import ImageList, KeptFacts, ListTools, ModelList, TemplateList
from mcp_front.middleware import Limits, SchemasForViews, Warming
from mcp_front.prompts import MAX_COMPLETIONS, TemplatePrompts
from mcp_front.results import Results
from mcp_front.settings import Settings
from mcp_front.sources import Sources
from mcp_front.tool import Handler, TypedTool
from mcp_front.viewing import ChunkFacts, JobFacts, MaskFacts, ViewTools
from mcp_front.waiting import CancelNotices

RECENT = 20
"""Number of pictures in image://recent."""

VIEW_URI = "ui://imagegen/picture.html"


def build(settings: Settings, *, local: bool) -> FastMCP:
    """Build the server. `local`: it runs on the user's machine, saves pictures there and reads reference files."""
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
        icons=[_icon()],
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
    results = Results(service, settings, saves=local)
    sources = Sources(service, settings, local=local)
    drawing = DrawingTools(service, settings, notices, sources, results)
    _add_tools(mcp, drawing, ListTools(service), ViewTools(service))
    _add_resources(mcp, service)
    _add_completion(mcp, service, templates)
    return mcp


def _add_tools(mcp: FastMCP, drawing: DrawingTools, lists: ListTools, viewing: ViewTools) -> None:
    picture_view = AppConfig(resource_uri=VIEW_URI)
    draws = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False)
    reads = ToolAnnotations(read_only_hint=True, open_world_hint=False)
    saves = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
    ends = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False)

    def add(method: Handler[Any], title: str, description: str, annotations: ToolAnnotations, **more: Any) -> None:
        more = {"facts": Facts, **more}
        mcp.add_tool(TypedTool.of(method, title=title, description=description, annotations=annotations, **more))

    add(drawing.generate_image, "Draw a picture", texts.GENERATE_IMAGE, draws, app=picture_view)
    add(drawing.edit_image, "Edit a picture", texts.EDIT_IMAGE, draws, app=picture_view, known=Generate)
    add(drawing.submit_async_job, "Draw in the background", texts.SUBMIT_ASYNC_JOB, draws, known=Generate)
    add(drawing.upscale_image, "Enlarge a picture", texts.UPSCALE_IMAGE, draws, app=picture_view)
    add(drawing.get_job_status, "How far is a job", texts.GET_JOB_STATUS, reads)
    add(drawing.get_job_result, "Fetch a picture", texts.GET_JOB_RESULT, saves, app=picture_view)
    add(drawing.cancel_job, "Cancel a job", texts.CANCEL_JOB, ends)
    add(lists.list_models, "Models", texts.LIST_MODELS, reads, facts=ModelList)
    add(lists.list_images, "Pictures", texts.LIST_IMAGES, reads, facts=ImageList)
    add(lists.keep_image, "Keep a picture", texts.KEEP_IMAGE, saves, facts=KeptFacts)
    add(lists.list_templates, "Prompt templates", texts.LIST_TEMPLATES, reads, facts=TemplateList)
    app_only = AppConfig(resource_uri=VIEW_URI, visibility=["app"])
    add(viewing.read_image_chunk, "A picture's bytes", texts.READ_IMAGE_CHUNK, reads, facts=ChunkFacts, app=app_only)
    add(viewing.read_job, "A job for the view", texts.READ_JOB, reads, facts=JobFacts, app=app_only)
    add(viewing.upload_mask, "A mask of the view", texts.UPLOAD_MASK, draws, facts=MaskFacts, app=app_only)
    add(drawing.vary_image, "More like a picture", texts.VARY_IMAGE, draws, app=app_only)


def _add_resources(mcp: FastMCP, service: Service) -> None:
    @mcp.resource(VIEW_URI, name="picture view", app=AppConfig(prefers_border=False))
    def view() -> str:
        """The picture inline, for hosts that render MCP Apps."""
        return _view()

    @mcp.resource("image://recent", name="recent pictures", mime_type="application/json")
    async def recent() -> str:
        """The newest pictures with their prompts."""
        try:
            images = await found_images(service, RECENT)
        except ServiceError as failed:
            raise ResourceError(str(failed)) from None
        return TypeAdapter(list[FoundImage]).dump_json(images).decode()

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


def _view() -> str:
    """The view as one document: a host lets it load nothing."""
    return re.sub(r"/\* (\w+\.(?:js|css)) \*/", lambda part: _asset(f"view/{part[1]}"), _asset("view/view.html"))


def _asset(name: str) -> str:
    return resources.files("mcp_front").joinpath(name).read_text(encoding="utf-8")


def _icon() -> mcp_types.Icon:
    data = base64.b64encode(_asset("icon.svg").encode()).decode()
    return mcp_types.Icon(src=f"data:image/svg+xml;base64,{data}", mime_type="image/svg+xml", sizes=["any"])


def _callers_bearer() -> str | None:
    """The bearer token of the current HTTP request, which the front forwards. Over HTTP it has no token of its own."""
    return bearer_of(get_http_headers(include={"authorization"}))

"""The tools that list templates, models and pictures, and keep a picture."""

from __future__ import annotations

from fastmcp import Context
from fastmcp.tools import ToolResult
from pydantic import BaseModel

from mcp_front.arguments import Keep, Nothing, Search
from mcp_front.client import Service
from mcp_front.gallery import FoundImage, found_images
from mcp_front.loras import Lora
from mcp_front.models import Model
from mcp_front.results import Results, has_view
from mcp_front.templates import Template


class TemplateList(BaseModel):
    """The service's prompt templates."""

    templates: list[Template]
    next_step: str


class ModelList(BaseModel):
    """The service's models."""

    models: list[Model]
    loras: list[Lora]
    next_step: str


class ImageList(BaseModel):
    """Pictures that jobs drew, the newest first."""

    images: list[FoundImage]
    next_step: str


class KeptFacts(BaseModel):
    """A picture that is kept."""

    image_id: str
    next_step: str


class ListTools:
    """Each public method is a tool; `texts` has the descriptions that agents read."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def list_templates(self, ctx: Context, _: Nothing) -> ToolResult:
        """List the prompt templates."""
        templates = await self._service.templates()
        lines = [line for template in templates for line in template.lines()]
        text = "\n".join(["Prompt templates. Fill what is in braces, then pass the text to generate_image:", *lines])
        return _said(ctx, text, TemplateList(templates=templates, next_step="Fill one in, then draw it."))

    async def list_models(self, ctx: Context, _: Nothing) -> ToolResult:
        """List the models, those that can draw now first, and the LoRAs."""
        models = sorted(await self._service.models(), key=lambda one: (not one.installed, not one.default, one.name))
        next_step = "Pass a name as `model` only if the user wants another model than the default."
        lines = [line for model in models for line in model.lines()]
        loras = await self._service.loras()
        if loras:
            lines += ["LoRAs, for `loras` of generate_image:", *(one.line for one in loras)]
        facts = ModelList(models=models, loras=loras, next_step=next_step)
        return _said(ctx, "\n".join([*lines, next_step]), facts)

    async def list_images(self, ctx: Context, asked: Search) -> ToolResult:
        """List the pictures, the newest first."""
        images = await found_images(self._service, asked.limit, asked.query, asked.kept)
        first = f"{len(images)} {'picture' if len(images) == 1 else 'pictures'}, the newest first."
        lines = [f"{number}. {one.line}" for number, one in enumerate(images, start=1)]
        if not images:
            none = "There is no picture: all have expired, or none was drawn."
            first = "No picture was found." if asked.query or asked.kept else none
        next_step = "edit_image, upscale_image and keep_image take the ids."
        return _said(ctx, "\n".join([first, *lines, next_step]), ImageList(images=images, next_step=next_step))

    async def keep_image(self, ctx: Context, asked: Keep) -> ToolResult:
        """Keep a picture beyond its expiry."""
        await self._service.keep(asked.image_id, asked.model_dump(include={"board", "note"}, exclude_none=True))
        next_step = "Tell the user that the service keeps it; list_images finds it with kept=true."
        where = f" on the board {asked.board}" if asked.board else ""
        text = f"Picture {asked.image_id} is kept{where}: it no longer expires.\n{next_step}"
        return _said(ctx, text, KeptFacts(image_id=asked.image_id, next_step=next_step))


def _said(ctx: Context, text: str, facts: BaseModel) -> ToolResult:
    return Results.said(text, facts.model_dump(mode="json"), structured=has_view(ctx))

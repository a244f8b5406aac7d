"""The service's prompt templates as MCP prompts, with their placeholders as arguments."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

import mcp_types
from fastmcp.exceptions import PromptError
from fastmcp.prompts import Prompt
from fastmcp.prompts.base import PromptArgument
from fastmcp.server.providers import Provider
from pydantic import BaseModel, ConfigDict, ValidationError

from mcp_front.client import Service, ServiceError
from mcp_front.texts import template_message

log = logging.getLogger(__name__)

MAX_COMPLETIONS = 100
"""As many values as one completion may have."""

_BRACES = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


class Placeholder(BaseModel):
    """A gap in a template, written `{name}` in its prompt; without a default a person has to fill it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    description: str = ""
    examples: list[str] = []
    default: str | None = None


class Template(BaseModel):
    """A preset of the service's. Width and height (pixels) suit the motif."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    title: str
    description: str = ""
    prompt: str
    placeholders: list[Placeholder] = []
    width: int | None = None
    height: int | None = None
    notes: str = ""

    def filled(self, values: Mapping[str, Any]) -> str:
        """The prompt with its gaps filled, from the defaults where nothing was typed.

        A gap with neither stays as it is, for the agent to ask about.
        """
        known = {gap.name: values.get(gap.name) or gap.default for gap in self.placeholders}
        return _BRACES.sub(lambda gap: str(known.get(gap[1]) or gap[0]), self.prompt)

    @property
    def size(self) -> str:
        """The size as arguments of generate_image, or nothing."""
        return f"width={self.width}, height={self.height}" if self.width and self.height else ""

    def lines(self) -> list[str]:
        """The template for an agent to read."""
        gaps = [
            f"    {{{gap.name}}}: {gap.description}" + (f" Default: {gap.default}" if gap.default else " Needed.")
            for gap in self.placeholders
        ]
        size = f" ({self.size})" if self.size else ""
        return [f"- {self.title}{size}: {self.description}", f"    {self.prompt}", *gaps]


async def fetch(service: Service) -> list[Template]:
    """The service's templates. Raises ServiceError."""
    answer = await service.templates()
    items = answer.get("items") if isinstance(answer, dict) else answer
    try:
        return [Template.model_validate(item) for item in items or []]
    except (ValidationError, TypeError) as invalid:
        log.warning("templates: %s", invalid)
        raise ServiceError(
            "not_the_service",
            "The image service's templates cannot be read. "
            "Service and MCP front are probably of different versions: update both.",
        ) from None


class TemplatePrompt(Prompt):
    """One template as a prompt."""

    template: Template

    async def render(self, arguments: dict[str, Any] | None = None) -> str:
        """The message that asks for the picture, with the arguments filled in."""
        size = f" with {self.template.size}" if self.template.size else ""
        return template_message(self.template.filled(arguments or {}), size)


class TemplatePrompts(Provider):
    """Asks the service each time, so that an operator's new template needs no restart of the front."""

    def __init__(self, service: Service) -> None:
        super().__init__()
        self._service = service

    async def _list_prompts(self) -> Sequence[Prompt]:
        """None while the service cannot be reached: clients ask on connecting, and the tools say why."""
        try:
            return [_as_prompt(template) for template in await fetch(self._service)]
        except ServiceError as failed:
            log.warning("no prompts: %s", failed)
            return []

    async def complete(self, prompt: str, argument: mcp_types.CompletionArgument) -> list[str]:
        """Examples for a gap that begin with what was typed."""
        try:
            templates = await fetch(self._service)
        except ServiceError as failed:
            raise PromptError(str(failed)) from None
        typed = argument.value.lower()
        return [
            example
            for template in templates
            if template.name == prompt
            for gap in template.placeholders
            if gap.name == argument.name
            for example in gap.examples
            if example.lower().startswith(typed)
        ][:MAX_COMPLETIONS]


def _as_prompt(template: Template) -> Prompt:
    return TemplatePrompt(
        name=template.name,
        title=template.title,
        description=template.description,
        arguments=[
            PromptArgument(name=gap.name, description=gap.description, required=gap.default is None)
            for gap in template.placeholders
        ],
        template=template,
    )

"""The service's prompt templates as MCP prompts, with their placeholders as arguments."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import mcp_types
from fastmcp.exceptions import PromptError
from fastmcp.prompts import Prompt
from fastmcp.prompts.base import PromptArgument
from fastmcp.server.providers import Provider

from mcp_front.answers import ServiceError
from mcp_front.client import Service
from mcp_front.templates import Template
from mcp_front.texts import template_message

log = logging.getLogger(__name__)

MAX_COMPLETIONS = 100
"""As many values as one completion may have."""


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
            return [_as_prompt(template) for template in await self._service.templates()]
        except ServiceError as failed:
            log.warning("no prompts: %s", failed)
            return []

    async def complete(self, prompt: str, argument: mcp_types.CompletionArgument) -> list[str]:
        """Examples for a gap that begin with what was typed."""
        try:
            templates = await self._service.templates()
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

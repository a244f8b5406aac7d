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
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from mcp_front.client import Service, ServiceError
from mcp_front.texts import TEMPLATE_PROMPT

log = logging.getLogger(__name__)

MAX_COMPLETIONS = 100
"""As many values as one completion may have."""

_BRACES = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


class Placeholder(BaseModel):
    """A gap in a template, for a person to fill; written `{name}` in its prompt."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    description: str = ""
    examples: list[str] = []


class Template(BaseModel):
    """A preset of the service's. Placeholders that it does not describe are found in the prompt."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    title: str = ""
    description: str = ""
    prompt: str
    placeholders: list[Placeholder] = []

    @model_validator(mode="after")
    def _find_placeholders(self) -> Template:
        described = {gap.name for gap in self.placeholders}
        found = [Placeholder(name=name) for name in dict.fromkeys(_BRACES.findall(self.prompt))]
        missing = [gap for gap in found if gap.name not in described]
        return self.model_copy(update={"placeholders": [*self.placeholders, *missing]}) if missing else self

    def filled(self, values: Mapping[str, Any]) -> str:
        """The prompt with the gaps filled; an empty gap stays as it is, for the agent to ask about."""
        return _BRACES.sub(lambda gap: str(values.get(gap[1]) or gap[0]), self.prompt)


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
        return TEMPLATE_PROMPT.format(prompt=self.template.filled(arguments or {}))


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
        title=template.title or template.name.replace("_", " "),
        description=template.description or template.prompt,
        arguments=[
            PromptArgument(name=gap.name, description=gap.description or None, required=False)
            for gap in template.placeholders
        ],
        template=template,
    )

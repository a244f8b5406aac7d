"""The service's prompt templates as MCP prompts, with their placeholders as arguments."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

import mcp_types
from fastmcp.exceptions import PromptError
from fastmcp.prompts import Prompt
from fastmcp.prompts.base import PromptArgument
from fastmcp.server.providers import Provider
from pydantic import Field, InstanceOf
from pydantic.json_schema import SkipJsonSchema

from mcp_front.answers import ServiceError
from mcp_front.client import Service
from mcp_front.templates import Template
from mcp_front.texts import template_message

log = logging.getLogger(__name__)

MAX_COMPLETIONS = 100
"""The most values that a completion may return."""


MODEL, LORA = "model", "lora"
OWN = {MODEL: "Another model than the service's default one.", LORA: "A LoRA to draw with."}
"""Arguments of every prompt, except those whose name is a placeholder of its template."""


class TemplatePrompt(Prompt):
    """One template as a prompt."""

    template: Template
    service: SkipJsonSchema[InstanceOf[Service]] = Field(exclude=True)

    async def render(self, arguments: dict[str, Any] | None = None) -> str:
        """The message that asks for the picture, with the arguments filled in and a size that suits the model."""
        values, template = arguments or {}, self.template
        own = {name: values.get(name) for name in _own(template)}
        model, lora = own.get(MODEL), own.get(LORA)
        try:
            if model:
                by_name = {one.name: one for one in await self.service.templates(model)}
                template = by_name.get(template.name, template)
        except ServiceError as failed:
            raise PromptError(str(failed)) from None
        loras = f"loras={json.dumps([{'name': lora}])}" if lora else ""
        asked = ", ".join(filter(None, [f"model={model}" if model else "", template.size, loras]))
        return template_message(template.filled(values), f" with {asked}" if asked else "")


class TemplatePrompts(Provider):
    """Reads the templates from the service on each call, so that a new template needs no restart of the front."""

    def __init__(self, service: Service) -> None:
        super().__init__()
        self._service = service

    async def _list_prompts(self) -> Sequence[Prompt]:
        """The prompts; empty if the service fails, since clients list them on connecting. Tools report the error."""
        try:
            return [self._as_prompt(template) for template in await self._service.templates()]
        except ServiceError as failed:
            log.warning("no prompts: %s", failed)
            return []

    async def complete(self, prompt: str, argument: mcp_types.CompletionArgument) -> list[str]:
        """Examples for a placeholder, or names of models or LoRAs, that begin with the text typed."""
        try:
            found = [one for one in await self._service.templates() if one.name == prompt]
            own = all(argument.name in _own(one) for one in found)
            if own and argument.name == MODEL:
                offered = [one.name for one in await self._service.models() if one.installed]
            elif own and argument.name == LORA:
                offered = [one.name for one in await self._service.loras()]
            else:
                gaps = [gap for template in found for gap in template.placeholders if gap.name == argument.name]
                offered = [example for gap in gaps for example in gap.examples]
        except ServiceError as failed:
            raise PromptError(str(failed)) from None
        typed = argument.value.lower()
        return [value for value in offered if value.lower().startswith(typed)][:MAX_COMPLETIONS]

    def _as_prompt(self, template: Template) -> Prompt:
        arguments = [
            PromptArgument(name=gap.name, description=gap.description, required=gap.default is None)
            for gap in template.placeholders
        ]
        arguments += [PromptArgument(name=name, description=OWN[name], required=False) for name in _own(template)]
        return TemplatePrompt(
            name=template.name,
            title=template.title,
            description=template.description,
            arguments=arguments,
            template=template,
            service=self._service,
        )


def _own(template: Template) -> list[str]:
    """The arguments of OWN that the template's prompt has."""
    return [name for name in OWN if all(gap.name != name for gap in template.placeholders)]

"""A tool whose arguments are one pydantic model, from which its JSON schema is generated."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, TypeVar, get_type_hints

import mcp_types
from fastmcp import Context
from fastmcp.apps import AppConfig
from fastmcp.apps.config import app_config_to_meta_dict
from fastmcp.exceptions import ToolError
from fastmcp.server.dependencies import get_context
from fastmcp.tools import Tool, ToolResult
from fastmcp.tools.base import InputRequiredToolResult
from mcp_types import ToolAnnotations
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.json_schema import SkipJsonSchema

A = TypeVar("A", bound="Arguments")


class Arguments(BaseModel):
    """The arguments of a tool. An omitted argument is None or the default of its field."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    unlisted: ClassVar[frozenset[str]] = frozenset()
    """Parameters that are taken, and left out of the schema because another tool lists them."""


class NeedsInput(Exception):
    """A tool needs input from its client. The client calls the tool again with the answers."""

    def __init__(self, requests: dict[str, Any]) -> None:
        super().__init__(", ".join(requests))
        self.requests = requests


Handler = Callable[[Context, A], Awaitable[ToolResult]]


LOWER = {"minimum", "minLength", "minItems"}


class TypedTool(Tool):
    """Validates the arguments, then calls `handler` with the request's context and the model."""

    handler: SkipJsonSchema[Callable[..., Awaitable[ToolResult]]] = Field(exclude=True)
    model: SkipJsonSchema[type[Arguments]] = Field(exclude=True)

    @classmethod
    def of(
        cls,
        handler: Handler[A],
        *,
        title: str,
        description: str,
        annotations: ToolAnnotations,
        facts: type[BaseModel],
        app: AppConfig | None = None,
        known: type[Arguments] = Arguments,
    ) -> TypedTool:
        """The tool with the name of `handler` and the arguments model of its second parameter.

        facts: the model of the structured content. known: parameters that another tool describes.
        """
        *_, model, _ = get_type_hints(handler).values()
        return cls(
            name=handler.__name__,
            title=title,
            description=description,
            annotations=annotations,
            parameters=schema(model, known),
            output_schema=facts.model_json_schema(),
            meta={"ui": app_config_to_meta_dict(app)} if app else None,
            handler=handler,
            model=model,
        )

    async def run(self, arguments: dict[str, Any]) -> ToolResult:
        """Validate and call. Raises ToolError with a sentence for each wrong argument, before anything is done."""
        try:
            asked = self.model.model_validate(arguments)
        except ValidationError as invalid:
            wrong = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}." for one in invalid.errors()]
            raise ToolError(f"Nothing was done. {' '.join(wrong)} Correct this and call again.") from None
        try:
            return await self.handler(get_context(), asked)
        except NeedsInput as needs:
            return InputRequiredToolResult(mcp_types.InputRequiredResult(input_requests=needs.requests))


def schema(model: type[Arguments], known: type[Arguments] = Arguments) -> dict[str, Any]:
    """The JSON schema of the arguments, kept short because every conversation contains it.

    A lower bound of 0 or 1 is omitted: a call with less is refused with a sentence.
    An optional parameter has its type without null, the default None and the title; null is still accepted. A
    description that `known` has in the same words is omitted. `additionalProperties` is omitted too: the error names
    an unknown parameter.
    """
    whole = model.model_json_schema()
    described = {name: field.description for name, field in known.model_fields.items()}
    properties = {}
    for name, rule in whole.get("properties", {}).items():
        if name in model.unlisted:
            continue
        properties[name] = _short(rule)
        if properties[name].get("description") == described.get(name):
            properties[name].pop("description", None)
    needed = {"required": whole["required"]} if "required" in whole else {}
    return {"type": "object", "properties": properties, **needed}


def _short(rule: dict[str, Any]) -> dict[str, Any]:
    kinds = [kind for kind in rule.get("anyOf", [{}]) if kind.get("type") != "null"]
    assert len(kinds) == 1, "a parameter is of one kind, or null"
    dropped = {"anyOf", "title"} | ({"default"} if rule.get("default") is None else set())
    short = {**kinds[0], **{name: value for name, value in rule.items() if name not in dropped}}
    return {name: value for name, value in short.items() if name not in LOWER or value > 1}

"""MCP middleware: output schemas for clients with views, the model's limits in the instructions, model warm-up."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import anyio
import mcp_types
from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext
from fastmcp.tools import Tool

from mcp_front import texts
from mcp_front.answers import ServiceError
from mcp_front.client import Service
from mcp_front.results import has_view

log = logging.getLogger(__name__)

LIMITS_WAIT_S = 2.0
"""Short, because the client waits for the front's first answer and the service may be down."""


class SchemasForViews(Middleware):
    """Announces output schemas only to clients that get structured content.

    Claude Code drops all text of a result that has structured content, so only clients with the UI extension get
    structured content. The protocol forbids a schema without it.
    """

    async def on_list_tools(
        self,
        context: MiddlewareContext[mcp_types.ListToolsRequest],
        call_next: CallNext[mcp_types.ListToolsRequest, Sequence[Tool]],
    ) -> Sequence[Tool]:
        tools = await call_next(context)
        if context.fastmcp_context and has_view(context.fastmcp_context):
            return tools
        return [tool.model_copy(update={"output_schema": None}) for tool in tools]


class Limits(Middleware):
    """Adds the model's limits to the instructions if the service reports some within LIMITS_WAIT_S."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def on_initialize(self, context: MiddlewareContext[Any], call_next: CallNext[Any, Any]) -> Any:
        return await self._with_limits(await call_next(context))

    async def on_discover(self, context: MiddlewareContext[Any], call_next: CallNext[Any, Any]) -> Any:
        return await self._with_limits(await call_next(context))

    async def _with_limits(self, answer: Any) -> Any:
        known = None
        with anyio.move_on_after(LIMITS_WAIT_S):
            try:
                known = await self._service.model_limits()
            except ServiceError as failed:
                log.debug("what the model cannot do is not known: %s", failed)
        if known is None or answer is None:
            return answer
        instructions = texts.with_limits(*known)
        if isinstance(answer, dict):
            return {**answer, "instructions": instructions}
        return answer.model_copy(update={"instructions": instructions})


class Warming(Middleware):
    """Loads the model when a client connects, to shorten the wait for the first picture."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def on_initialize(self, context: MiddlewareContext[Any], call_next: CallNext[Any, Any]) -> Any:
        await self._warm()
        return await call_next(context)

    async def on_discover(self, context: MiddlewareContext[Any], call_next: CallNext[Any, Any]) -> Any:
        await self._warm()
        return await call_next(context)

    async def _warm(self) -> None:
        try:
            await self._service.warm()
        except ServiceError as failed:
            log.warning("the model was not warmed: %s", failed)

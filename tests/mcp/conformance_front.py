"""The front over HTTP with what the conformance suite wants to find in a server, beside its own tools.

Run by test_front_clients.py, never part of the product: the front is built as the product builds it, and the
suite's fixtures are added to it.
"""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import mcp_types as types
from fastmcp import Context, FastMCP
from fastmcp.exceptions import ToolError
from fastmcp.prompts import Message
from fastmcp.prompts.base import PromptResult
from fastmcp.tools import ToolResult
from mcp import MCPError
from mcp_types.jsonrpc import MISSING_REQUIRED_CLIENT_CAPABILITY

from mcp_front.cli import http_server, run_http
from mcp_front.settings import load

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
IMAGE = types.ImageContent(data=base64.b64encode(PNG).decode(), mime_type="image/png")
WAV = base64.b64encode(
    b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x44\xac\0\0\x88\x58\1\0\2\0\x10\0data\0\0\0\0"
).decode()
SAMPLING = {"sampling": types.ClientCapabilities.model_validate({"sampling": {}})}


def embedded(uri: str) -> types.EmbeddedResource:
    return types.EmbeddedResource(
        resource=types.TextResourceContents(uri=uri, mime_type="text/plain", text="embedded text")
    )


def add_contents(mcp: FastMCP) -> None:
    """Tools that answer with each kind of content."""

    @mcp.tool
    def test_simple_text() -> ToolResult:
        """Plain text."""
        return ToolResult(content="This is a simple text response for testing.")

    @mcp.tool
    def test_image_content() -> ToolResult:
        """A picture."""
        return ToolResult(content=[IMAGE])

    @mcp.tool
    def test_audio_content() -> ToolResult:
        """A sound."""
        return ToolResult(content=[types.AudioContent(data=WAV, mime_type="audio/wav")])

    @mcp.tool
    def test_embedded_resource() -> ToolResult:
        """A resource."""
        return ToolResult(content=[embedded("test://embedded-resource")])

    @mcp.tool
    def test_multiple_content_types() -> ToolResult:
        """Text, a picture and a resource."""
        return ToolResult(content=[types.TextContent(text="mixed"), IMAGE, embedded("test://mixed")])

    @mcp.tool
    def test_error_handling() -> ToolResult:
        """An error."""
        raise ToolError("This tool intentionally returns an error for testing")

    @mcp.tool
    async def test_tool_with_progress(ctx: Context) -> ToolResult:
        """Progress."""
        for done in (0, 50, 100):
            await ctx.report_progress(done, 100)
            await asyncio.sleep(0.05)
        return ToolResult(content="done")

    @mcp.tool
    async def test_logging_tool(ctx: Context) -> ToolResult:
        """Log lines, for clients that asked for them."""
        await ctx.info("a log line")
        return ToolResult(content="logged")


def add_resources_and_prompts(mcp: FastMCP) -> None:
    @mcp.resource("test://static-text", mime_type="text/plain")
    def static_text() -> str:
        """Text."""
        return "This is the content of the static text resource."

    @mcp.resource("test://static-binary", mime_type="image/png")
    def static_binary() -> bytes:
        """Bytes."""
        return PNG

    @mcp.resource("test://template/{id}/data", mime_type="application/json")
    def template(id: str) -> str:
        """By id."""
        return f'{{"id":"{id}","templateTest":true,"data":"Data for ID: {id}"}}'

    @mcp.prompt
    def test_simple_prompt() -> str:
        """No arguments."""
        return "This is a simple prompt for testing."

    @mcp.prompt
    def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
        """Two arguments."""
        return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"

    @mcp.prompt
    def test_prompt_with_embedded_resource(resourceUri: str) -> list[Message]:
        """A resource."""
        return [Message(embedded(resourceUri)), Message("Please process the embedded resource above.")]

    @mcp.prompt
    def test_prompt_with_image() -> list[Message]:
        """A picture."""
        return [Message(IMAGE), Message("Please analyze the image above.")]


def ask(message: str, **properties: str) -> types.ElicitRequest:
    schema = {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in properties.items()},
        "required": list(properties),
    }
    return types.ElicitRequest(params=types.ElicitRequestFormParams(message=message, requested_schema=schema))


def sample(text: str) -> types.CreateMessageRequest:
    message = types.SamplingMessage(role="user", content=types.TextContent(text=text))
    return types.CreateMessageRequest(params=types.CreateMessageRequestParams(messages=[message], max_tokens=100))


def needs(state: str | None = None, **requests: Any) -> types.InputRequiredResult:
    return types.InputRequiredResult(input_requests=requests, request_state=state)


def add_input_required(mcp: FastMCP) -> None:
    """Tools that ask the client for something and are called again with the answer."""

    def asking(name: str, state: str | None, **requests: Any) -> None:
        async def tool(ctx: Context) -> Any:
            if not requests.keys() <= (ctx.input_responses or {}).keys():
                return needs(state, **requests)
            return ToolResult(content="state-ok" if ctx.request_state == state else "state-lost")

        mcp.tool(tool, name=f"test_input_required_result_{name}", description=f"Asks: {', '.join(requests)}.")

    name, confirm = ask("What is your name?", name="string"), ask("Please confirm", ok="boolean")
    roots = types.ListRootsRequest()
    asking("elicitation", None, user_name=name)
    asking("sampling", None, capital_question=sample("What is the capital of France?"))
    asking("list_roots", None, client_roots=roots)
    asking("request_state", "state", confirm=confirm)
    asking("tampered_state", "state", confirm=confirm)
    asking("multiple_inputs", "state", user_name=name, greeting=sample("Generate a greeting"), client_roots=roots)

    @mcp.tool
    async def test_input_required_result_multi_round(ctx: Context) -> Any:
        """Asks twice."""
        answers = ctx.input_responses or {}
        if "step2" in answers:
            return ToolResult(content="done")
        if "step1" in answers:
            return needs("round-2", step2=ask("What is your favorite color?", color="string"))
        return needs("round-1", step1=name)

    @mcp.tool
    async def test_input_required_result_capabilities(ctx: Context) -> Any:
        """Asks only for what the client can do."""
        able = ctx.session.client_capabilities or types.ClientCapabilities()
        requests: dict[str, Any] = {}
        if able.sampling is not None:
            requests["sampled"] = sample("Anything")
        if able.elicitation is not None:
            requests["asked"] = name
        return needs(None, **requests) if requests else ToolResult(content="nothing to ask")

    @mcp.tool
    async def test_streaming_elicitation(ctx: Context) -> Any:
        """Asks on the stream of its answer."""
        return ToolResult(content="done") if ctx.input_responses else needs(None, user_name=name)

    @mcp.tool
    async def test_missing_capability(ctx: Context) -> ToolResult:
        """Needs a client that samples."""
        able = ctx.session.client_capabilities
        if able is None or able.sampling is None:
            missing = {"requiredCapabilities": {"sampling": {}}}
            raise MCPError(MISSING_REQUIRED_CLIENT_CAPABILITY, "This tool needs sampling", missing)
        return ToolResult(content="done")

    @mcp.prompt
    async def test_input_required_result_prompt(ctx: Context) -> Any:
        """Asks before it answers."""
        if not ctx.input_responses:
            return needs(None, user_context=ask("What context should the prompt use?", context="string"))
        return PromptResult("with context")


if __name__ == "__main__":
    settings = load()
    server = http_server(settings)
    add_contents(server)
    add_resources_and_prompts(server)
    add_input_required(server)
    run_http(server, settings)

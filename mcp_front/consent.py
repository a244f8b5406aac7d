"""Ask the client for its folders, and the user about files outside them, if the client supports these requests."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import mcp_types
from fastmcp import Context
from fastmcp.server.elicitation import AcceptedElicitation
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from mcp_front.paths import BadReference
from mcp_front.roots import is_inside, is_secret, narrow, open_folders
from mcp_front.settings import Settings
from mcp_front.tool import NeedsInput

ROOTS = "roots"
SEND = "send"


async def permit(ctx: Context, paths: Sequence[Path], settings: Settings) -> None:
    """Return if every file may be sent. `paths` have their symlinks resolved.

    Raises BadReference for a file that may not be sent. Raises NeedsInput to ask the client, which calls the tool
    again with its answers.
    """
    for path in paths:
        if is_secret(path):
            where = f"{path} lies where credentials or system files are. It is never read."
            raise BadReference(f"{where} Tell the user so, and do not ask for it again.")
    folders = open_folders(settings, Path.cwd())
    able = ctx.session.client_capabilities
    if _outside(paths, folders) and settings.roots is None and able and able.roots is not None:
        folders += narrow(await _clients_roots(ctx))
    outside = _outside(paths, folders)
    if not outside:
        return
    named = ", ".join(map(str, outside))
    if able is None or able.elicitation is None:
        raise BadReference(
            f"{named} lies outside the folders whose pictures may be sent, so nothing was sent. Tell the user: "
            f"IMAGEGEN_MCP_ROOTS of this MCP server names the folders; {folders[0]} is open."
        )
    if not await _agreed(ctx, outside, asks_roots=settings.roots is None and able.roots is not None):
        raise BadReference(f"The user did not agree to send {named}, so nothing was sent. Do not ask for it again.")


def _outside(paths: Sequence[Path], folders: Sequence[Path]) -> list[Path]:
    return [path for path in paths if not is_inside(path, folders)]


async def _clients_roots(ctx: Context) -> list[Path]:
    """The client's MCP roots. Raises NeedsInput if they have to be asked for first."""
    if _is_modern(ctx):
        answer: Any = (ctx.input_responses or {}).get(ROOTS)
        if answer is None:
            raise NeedsInput({ROOTS: mcp_types.ListRootsRequest()})
    else:
        answer = await ctx.session.list_roots()
    return [Path(url2pathname(urlsplit(str(root.uri)).path)) for root in getattr(answer, "roots", [])]


async def _agreed(ctx: Context, files: Sequence[Path], *, asks_roots: bool) -> bool:
    """Whether the user agrees to send exactly these files. Raises NeedsInput if the question has to be asked first."""
    question = "An assistant wants to send files of this computer to the image service:\n" + "\n".join(map(str, files))
    if not _is_modern(ctx):
        said = await ctx.elicit(f"{question}\nSend them?", bool)
        return isinstance(said, AcceptedElicitation) and said.data is True
    key = f"{SEND}-{hashlib.sha256(question.encode()).hexdigest()[:16]}"
    answers = ctx.input_responses or {}
    if key not in answers:
        schema = {"type": "object", "properties": {SEND: {"type": "boolean", "title": "Send"}}, "required": [SEND]}
        ask = mcp_types.ElicitRequest(
            params=mcp_types.ElicitRequestFormParams(message=question, requested_schema=schema)
        )
        # The client does not repeat its earlier answers, so the folders are requested again.
        raise NeedsInput({**({ROOTS: mcp_types.ListRootsRequest()} if asks_roots else {}), key: ask})
    answer: Any = answers[key]
    content: Mapping[str, Any] = getattr(answer, "content", None) or {}
    return getattr(answer, "action", None) == "accept" and content.get(SEND) is True


def _is_modern(ctx: Context) -> bool:
    """Whether the protocol version has the server ask in a tool's result, not in a request of its own."""
    request = ctx.request_context
    return bool(request and request.protocol_version in MODERN_PROTOCOL_VERSIONS)

"""The pictures that a request starts from: an id of the service's, or a local file that is sent to it."""

from __future__ import annotations

import base64

from fastmcp.exceptions import ToolError

from mcp_front import references
from mcp_front.client import Service
from mcp_front.paths import BadReference
from mcp_front.settings import Settings


class Sources:
    """`local`: this process runs on the person's machine, and so may read files there."""

    def __init__(self, service: Service, settings: Settings, *, local: bool) -> None:
        self._service, self._settings, self._local = service, settings, local

    async def image(self, reference: str) -> str:
        """An image id of the service: the one named, or that of an uploaded local file."""
        return self._known(reference) or await self._service.upload(await self._load(reference))

    async def mask(self, reference: str) -> str:
        """An image id, or a local file as a data URL: an upload would lose the transparency that a mask may have."""
        if found := self._known(reference):
            return found
        return f"data:image/x;base64,{base64.b64encode(await self._load(reference)).decode()}"

    def _known(self, reference: str) -> str | None:
        return references.image_id(reference, self._settings.download_base)

    async def _load(self, reference: str) -> bytes:
        if not self._local:
            raise ToolError(
                f"{reference[:200]!r} is not an image id. This MCP server does not run on the user's "
                "machine, so it takes image ids from earlier results, or from an upload: POST the file to "
                f"{self._settings.download_base}/api/images."
            )
        try:
            return await references.load(reference)
        except BadReference as unusable:
            raise ToolError(str(unusable)) from None

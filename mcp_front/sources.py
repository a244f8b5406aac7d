"""The source pictures of a request: an image id of the service, or a local file that is uploaded to it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastmcp import Context
from fastmcp.exceptions import ToolError

from mcp_front import references
from mcp_front.client import Service
from mcp_front.consent import permit
from mcp_front.paths import BadReference
from mcp_front.settings import Settings


class Sources:
    """Resolves source pictures. `local`: this process runs on the user's machine and may read files there."""

    def __init__(self, service: Service, settings: Settings, *, local: bool) -> None:
        self._service, self._settings, self._local = service, settings, local

    async def pictures(self, ctx: Context, images: Sequence[str], mask: str | None = None) -> dict[str, Any]:
        """`images` and `mask` for the service's request. Uploads local files, none unless all may be sent.

        Raises ToolError, and NeedsInput to ask the user about a file.
        """
        try:
            files = await self._files(ctx, [*images, *([mask] if mask else [])])
            found: dict[str, Any] = {"images": [await self._image(one, files) for one in images]} if images else {}
            if mask:
                found["mask"] = await self._image(mask, files)
        except BadReference as unusable:
            raise ToolError(str(unusable)) from None
        return found

    async def _files(self, ctx: Context, named: Sequence[str]) -> dict[str, Path]:
        """The paths of the local files among the references. Returns once all may be sent."""
        local = [one for one in named if not self._known(one)]
        if local and not self._local:
            raise BadReference(
                f"{local[0][:200]!r} is not an image id. This MCP server does not run on the user's "
                "machine, so it takes image ids from earlier results, or from an upload: POST the file to "
                f"{self._settings.download_base}/api/images."
            )
        files = {one: await references.locate(one) for one in local}
        await permit(ctx, list(files.values()), self._settings)
        return files

    async def _image(self, named: str, files: dict[str, Path]) -> str:
        return self._known(named) or await self._service.upload(await references.load(files[named]))

    def _known(self, reference: str) -> str | None:
        return references.image_id(reference, self._settings.download_base)

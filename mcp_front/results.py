"""Tool results: text with path and URL, a preview, a link, and structured content for hosts with a view."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio.to_thread
from fastmcp import Context
from fastmcp.apps import UI_EXTENSION_ID
from fastmcp.exceptions import ToolError
from fastmcp.tools import ToolResult
from mcp_types import Annotations, ContentBlock, ImageContent, ResourceLink, TextContent

from imagegen_client.progress import describe
from mcp_front import texts
from mcp_front.answers import Check, Job, Picture, ServiceError
from mcp_front.client import Service
from mcp_front.facts import Facts, ImageFacts, facts
from mcp_front.progress import poll_s
from mcp_front.saving import NotSaved, file_name, save
from mcp_front.settings import Settings
from mcp_front.words import finished_so_far, first_lines, headline, later, notes, unfinished, until, why_no_picture

MAX_RESULT_CHARS = 900_000
"""Claude Desktop refuses results of 1,048,576 characters and more."""

PREVIEW_SIDES_PX = (512, 384, 256, 128)
MAX_PREVIEW_BYTES = 100_000
MAX_TEXT_CHARS = 60_000
"""Claude Code moves text of 90 kB or more into a file."""


def has_view(ctx: Context) -> bool:
    """Whether the client supports MCP Apps and therefore gets structured content."""
    return ctx.client_supports_extension(UI_EXTENSION_ID)


@dataclass(frozen=True)
class _Delivered:
    picture: Picture
    url: str
    name: str
    saved: Path | None
    problem: str | None
    preview: bytes | None

    @property
    def uri(self) -> str:
        return f"image://{self.picture.id}/full.png"

    @property
    def download_command(self) -> str:
        """A command for every shell: neither name nor URL has a character that is special in double quotes."""
        return f'curl -fL -o "{self.name}" "{self.url}"'

    @property
    def facts(self) -> ImageFacts:
        return ImageFacts(
            image_id=self.picture.id,
            width=self.picture.width,
            height=self.picture.height,
            bytes=self.picture.bytes,
            seed=self.picture.seed,
            url=self.url,
            resource_uri=self.uri,
            saved_path=str(self.saved) if self.saved else None,
            download_command=None if self.saved else self.download_command,
        )


class Results:
    """Builds tool results. `saves`: this process runs on the user's machine and saves pictures there."""

    def __init__(self, service: Service, settings: Settings, *, saves: bool) -> None:
        self._service, self._settings, self._saves = service, settings, saves

    async def finished(self, job: Job, *, structured: bool) -> ToolResult:
        """The finished pictures of a job, numbered if it asked for several. It may go on, or have ended early.

        Raises ToolError for a job without pictures, and ServiceError.
        """
        if not job.images:
            raise ToolError(why_no_picture(job))
        several = int(job.params.get("n") or 1) > 1
        delivered = [await self._deliver(job, picture) for picture in job.images]
        next_step = texts.next_step_done(saved=all(d.saved for d in delivered), several=several)
        if not job.ended:
            next_step = f"{next_step} {texts.next_step_waiting(job.job_id, poll_s(job))}"
        lines = [*unfinished(job), *first_lines(job), headline(job), *self._lines(job, delivered, several=several)]
        text = "\n".join([*lines, *notes(later(job)), next_step])
        content: list[ContentBlock] = [TextContent(text=text[:MAX_TEXT_CHARS])]
        content += _previews(delivered, numbered=several)
        content += [
            ResourceLink(uri=d.uri, name=d.name, mime_type="image/png", size=d.picture.bytes) for d in delivered
        ]
        known = facts(job, next_step, [d.facts for d in delivered])
        return ToolResult(content=content, structured_content=known if structured else None)

    def going_on(self, job: Job, *, structured: bool) -> ToolResult:
        """A queued, running or complete job, without its pictures. Raises ToolError for a failed or cancelled job."""
        if job.status in {"failed", "cancelled"}:
            raise ToolError("\n".join([why_no_picture(job), *finished_so_far(job)]))
        complete = job.status == "complete"
        next_step = (
            texts.next_step_complete(job.job_id) if complete else texts.next_step_waiting(job.job_id, poll_s(job))
        )
        so_far = [] if complete else finished_so_far(job)
        text = "\n".join([f"Job {job.job_id}: {describe(job)}.", *so_far, *notes(job.warnings), next_step])
        return self.said(text, facts(job, next_step, []), structured=structured)

    def not_drawn(self, checked: Check, prompt: str, *, structured: bool) -> ToolResult:
        """A request that was not submitted because the model cannot draw its subject."""
        first = "Nothing was drawn yet: the picture would not show what was asked for."
        text = "\n".join([first, *notes(checked.warnings), texts.NEXT_STEP_ASK])
        facts = Facts(
            job_id=None,
            status="not_drawn",
            says=first,
            model=checked.model,
            prompt=prompt[:1000],
            warnings=[warning.detail for warning in checked.warnings],
            next_step=texts.NEXT_STEP_ASK,
        )
        return self.said(text, facts.model_dump(mode="json"), structured=structured)

    def cancelled(self, job: Job, *, structured: bool) -> ToolResult:
        """The job after a cancel request. If it had already ended, the result says how."""
        if job.status == "cancelled":
            text = "\n".join([f"Job {job.job_id} is cancelled.", *(finished_so_far(job) or ["It has no picture."])])
        else:
            text = f"Job {job.job_id} had already ended: {job.status}. Nothing was changed."
        return self.said(f"{text}\n{texts.NEXT_STEP_TOLD}", facts(job, texts.NEXT_STEP_TOLD, []), structured=structured)

    @staticmethod
    def said(text: str, facts: dict[str, Any], *, structured: bool) -> ToolResult:
        content: list[ContentBlock] = [TextContent(text=text[:MAX_TEXT_CHARS])]
        return ToolResult(content=content, structured_content=facts if structured else None)

    async def _deliver(self, job: Job, picture: Picture) -> _Delivered:
        saved: Path | None = None
        problems: list[str] = []
        name = file_name(job.prompt, picture.id, job.finished_at)
        if self._saves:
            try:
                png = await self._service.picture(picture.id)
                if hashlib.sha256(png).hexdigest() != picture.sha256:
                    raise NotSaved("The picture was not saved: it arrived damaged. Fetch it again by its URL.")
                saved = await anyio.to_thread.run_sync(save, png, name, self._settings.output_dir)
            except (ServiceError, NotSaved) as failed:
                problems.append(str(failed))
        preview: bytes | None = None
        try:
            preview = await self._preview(picture)
        except ServiceError as failed:
            problems.append(f"There is no preview: {failed}")
        url = f"{self._settings.download_base}/images/{picture.id}.png"
        return _Delivered(picture, url, name, saved, " ".join(problems) or None, preview)

    async def _preview(self, picture: Picture) -> bytes | None:
        """The largest preview within the limits of side length and MAX_PREVIEW_BYTES."""
        for side_px in PREVIEW_SIDES_PX:
            scale = min(1.0, side_px / max(picture.width, picture.height, 1))
            jpeg = await self._service.preview(picture.id, max(1, int(picture.width * scale)))
            if len(jpeg) <= MAX_PREVIEW_BYTES:
                return jpeg
        return None

    def _lines(self, job: Job, delivered: list[_Delivered], *, several: bool) -> list[str]:
        lines = []
        for number, one in enumerate(delivered, start=1):
            if several:
                lines.append(f"Picture {number} (seed {one.picture.seed}):")
            if one.problem:
                lines.append(one.problem)
            if one.saved:
                lines.append(f"Saved: {one.saved}")
            else:
                lines.append(f"Download command: {one.download_command}")
            lines.append(f"URL{until(job.expires_at)}: {one.url}")
            lines.append(f"Image id: {one.picture.id} (edit_image takes it)")
        return lines


def _previews(delivered: Sequence[_Delivered], *, numbered: bool) -> Iterator[ContentBlock]:
    """The previews that MAX_RESULT_CHARS has room for. `numbered`: each follows a line with its number."""
    room = MAX_RESULT_CHARS - 2 * MAX_TEXT_CHARS
    for number, one in enumerate(delivered, start=1):
        encoded = base64.b64encode(one.preview or b"").decode()
        if not encoded or (room := room - len(encoded)) <= 0:
            continue
        if numbered:
            yield TextContent(text=f"Picture {number}:")
        for_both = Annotations(audience=["user", "assistant"], priority=1.0)
        which = {"imagegen/image_id": one.picture.id}
        yield ImageContent(data=encoded, mime_type="image/jpeg", annotations=for_both, _meta=which)

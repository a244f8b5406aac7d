"""OpenAI's partial images: previews of a running job as stream events."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncGenerator
from typing import Any

from imagegen.app import App
from imagegen.http.openai.request import ImagesRequest
from imagegen.http.snapshots import one_line
from imagegen.http.sse import HEARTBEAT, HEARTBEAT_S, Frames, frame
from imagegen.images.previews import converted
from imagegen.jobs.previews import PREVIEW, StoredPreview
from imagegen.schemas import Job


async def until_drawn(app: App, asked: ImagesRequest, job: Job, event: str, end: asyncio.Task[Job]) -> Frames:
    """Yield partial pictures until `end`, the task that waits for the job, is done. Sends heartbeats in between."""
    sent = 0
    async for preview in _due(app, job.id, asked.partial_images or 0, end):
        if preview is None:
            yield HEARTBEAT
            continue
        name = f"{event}.partial_image"
        data = await asyncio.to_thread(converted, preview.data, asked.format, asked.compression)
        yield frame(name, one_line({"type": name} | _described(asked, job, data) | {"partial_image_index": sent}))
        sent += 1


def _described(asked: ImagesRequest, job: Job, data: bytes) -> dict[str, Any]:
    return {
        "b64_json": base64.b64encode(data).decode(),
        "created_at": int(time.time()),
        "size": f"{job.params.width}x{job.params.height}",
        "quality": quality(job),
        "background": "opaque",
        "output_format": asked.format,
        "job_id": job.id,
    }


def quality(job: Job) -> str:
    """OpenAI's `quality`: `low` if the job skipped steps, else `high`."""
    return "low" if job.params.speed == "fast" else "high"


async def _due(
    app: App, job_id: str, number: int, end: asyncio.Task[Job]
) -> AsyncGenerator[StoredPreview | None, None]:
    """Yield previews of the job's first picture, at most `number`, spread evenly over its steps.

    Yields None after HEARTBEAT_S without a change.
    """
    sent = 0
    with app.jobs.changes.subscribe(PREVIEW) as changed:
        while not end.done():
            changed.clear()
            preview = app.jobs.previews.get(job_id)
            if preview is not None and is_due(preview, number, sent):
                sent += 1
                yield preview
            ring = asyncio.create_task(changed.wait())
            done, _ = await asyncio.wait({end, ring}, timeout=HEARTBEAT_S, return_when=asyncio.FIRST_COMPLETED)
            ring.cancel()
            if not done:
                yield None


def is_due(preview: StoredPreview, number: int, sent: int) -> bool:
    """Whether this preview is late enough to be the next of `number` partial pictures, after `sent` of them."""
    share = (sent + 1) / (number + 1)
    return preview.image == 1 and sent < number and preview.step >= share * preview.steps

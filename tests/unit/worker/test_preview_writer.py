"""Previews between the engine and the readers: the newest of those that wait is encoded, a broken one costs itself."""

from __future__ import annotations

import asyncio
from pathlib import Path

from state_folder import opened, scenario

from imagegen.engines.base import Preview
from imagegen.worker.previews import PreviewWriter


def preview(step: int, pixels: int = 64) -> Preview:
    return Preview(step, 8, 8, bytes(3 * pixels))


@scenario
async def test_the_newest_preview_is_shown_and_a_broken_one_costs_itself(folder: Path) -> None:
    async with opened(folder) as state:
        job = await state.started()
        with state.jobs.changes.subscribe_all() as heard:
            async with PreviewWriter(state.jobs, job, None) as previews:
                previews.put((1, preview(1, pixels=3)))
                await asyncio.sleep(0)
                for step in (2, 3, 4):
                    previews.put((2, preview(step)))
                async with asyncio.timeout(60):
                    while (newest := state.jobs.previews.get(job.id)) is None or newest.step != 4:
                        await heard.event.wait()
                        heard.take()
        assert (newest.image, newest.step, newest.steps) == (2, 4, job.params.steps)
        assert newest.data[:2] == b"\xff\xd8"

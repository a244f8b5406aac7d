"""The newest preview of the running job: who gets it, and when it goes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from state_folder import DRAWING, State, opened, scenario

from imagegen.jobs.previews import PREVIEW, StoredPreview
from imagegen.schemas import Failure, Job

FAILURE = Failure(code="engine_died", detail="The engine died.")


def seen(job_id: str, step: int) -> StoredPreview:
    return StoredPreview(job_id, 1, step, 4, b"JPEG %d" % step)


@scenario
async def test_the_newest_preview_replaces_the_one_before_and_is_announced(folder: Path) -> None:
    async with opened(folder) as state:
        running, waiting = await state.submit(), await state.submit()
        assert await state.jobs.start(running.id, DRAWING)
        with state.jobs.changes.subscribe_all() as heard:
            for step in (1, 2):
                state.jobs.show(seen(running.id, step))
                assert heard.take() == {PREVIEW}
            state.jobs.show(seen(waiting.id, 1))
            state.jobs.show(seen("f" * 32, 1))
            assert heard.take() == set()
        newest = state.jobs.previews.get(running.id)
        assert newest == state.jobs.previews.newest() == seen(running.id, 2)
        assert newest.etag != seen(running.id, 1).etag
        assert state.jobs.previews.get(waiting.id) is None


async def cancel(state: State, job: Job) -> None:
    await state.jobs.cancel(job.id)


async def fail(state: State, job: Job) -> None:
    await state.jobs.fail(job.id, FAILURE)


async def complete(state: State, job: Job) -> None:
    await state.jobs.complete(job, [])


async def requeue(state: State, job: Job) -> None:
    await state.jobs.requeue(job.id, counted=True)


@pytest.mark.parametrize("end", [cancel, fail, complete, requeue], ids=lambda end: end.__name__)
def test_a_preview_goes_with_its_jobs_end(tmp_path: Path, end: Callable[[State, Job], Awaitable[None]]) -> None:
    @scenario
    async def lived(folder: Path) -> None:
        async with opened(folder) as state:
            job = await state.started()
            state.jobs.show(seen(job.id, 1))
            await end(state, job)
            assert state.jobs.previews.newest() is None
            state.jobs.show(seen(job.id, 2))  # one that was being encoded meanwhile
            assert state.jobs.previews.newest() is None

    lived(tmp_path)

"""Drafts: jobs that delay nobody, are in no list, and are deleted soon unless somebody keeps them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from state_folder import DRAWING, TTL_S, Clock, on_both, opened

from imagegen.jobs.manager import DRAFT_TTL_S
from imagegen.schemas import Refused, Status
from imagegen.telemetry.recorder import Recorder


@on_both
async def test_a_draft_is_refused_while_another_job_waits_or_runs(folder: Path) -> None:
    async with opened(folder) as state:
        waiting = await state.submit()
        with pytest.raises(Refused) as caught:
            await state.submit(draft=True)
        assert (caught.value.status, caught.value.code) == (409, "busy")
        assert await state.jobs.start(waiting.id, DRAWING)
        with pytest.raises(Refused, match="waits or runs"):
            await state.submit(draft=True)
        assert await state.jobs.cancel(waiting.id)
        draft = await state.submit(draft=True)
        with pytest.raises(Refused, match="waits or runs"):
            await state.submit(draft=True)
        assert [one.id for one in state.jobs.active()] == [draft.id]


@on_both
async def test_the_next_job_cancels_a_draft_that_waits_or_runs(folder: Path) -> None:
    async with opened(folder) as state:
        for running in (False, True):
            draft = await state.submit(draft=True)
            if running:
                assert await state.jobs.start(draft.id, DRAWING)
            job = await state.submit()
            assert (await state.jobs.get(draft.id)).status is Status.CANCELLED
            assert [one.id for one in state.jobs.active()] == [job.id]
            await state.jobs.cancel(job.id)
            assert not state.jobs.is_active(job.id)


@on_both
async def test_a_draft_is_in_no_list_and_is_deleted_soon(folder: Path) -> None:
    async with opened(folder) as state:
        job = await state.submit()
        assert await state.draw(job)
        draft = await state.submit(draft=True)
        assert await state.draw(draft)
        done = await state.jobs.get(draft.id)
        assert (done.status, done.draft, len(done.images)) == (Status.COMPLETE, True, 1)
        assert done.expires_at == done.images[0].expires_at == state.clock.now + DRAFT_TTL_S
        assert [one.id for one in await state.jobs.list(10)] == [job.id]
        assert [one.job_id for one in await state.images.list(10)] == [job.id]
        state.clock.now += DRAFT_TTL_S
        await state.jobs.sweep()
        assert state.files() == [one.id for one in await state.images.list(10)]
        with pytest.raises(Refused, match="expired"):
            await state.jobs.get(draft.id)


@on_both
async def test_a_draft_that_is_kept_is_a_job_like_any_other(folder: Path) -> None:
    async with opened(folder) as state:
        complete = await state.submit(draft=True)
        assert await state.draw(complete)
        state.clock.now += 60
        assert await state.jobs.keep(complete.id)
        job = await state.jobs.get(complete.id)
        assert (job.draft, job.status) == (False, Status.COMPLETE)
        assert job.expires_at == job.images[0].expires_at == state.clock.now + TTL_S

        running = await state.submit(draft=True)
        assert await state.jobs.keep(running.id)
        assert not (await state.jobs.get(running.id)).draft
        await state.submit()  # does not cancel it
        assert await state.draw(running)
        assert (await state.jobs.get(running.id)).expires_at == state.clock.now + TTL_S
        assert {one.id for one in await state.jobs.list(10)} >= {complete.id, running.id}

        assert not await state.jobs.keep(complete.id)
        assert await state.jobs.get(complete.id) == job, "what is no draft stays as it is"


@on_both
async def test_a_draft_kept_while_it_ends_is_counted_like_any_other(folder: Path) -> None:
    ended: list[Status] = []
    recorder = Recorder()
    recorder.job_ended = ended.append  # type: ignore[method-assign]
    async with opened(folder, recorder=recorder) as state:
        draft = await state.submit(draft=True)
        kept, job = await asyncio.gather(state.jobs.keep(draft.id), state.jobs.cancel(draft.id))
        assert (kept, job.status, job.draft) == (True, Status.CANCELLED, False)
        assert job.expires_at == state.clock.now + TTL_S
        assert ended == [Status.CANCELLED]


@on_both
async def test_a_draft_kept_while_it_starts_is_not_cancelled_by_the_next_job(folder: Path) -> None:
    async with opened(folder) as state:
        draft = await state.submit(draft=True)
        kept, started = await asyncio.gather(state.jobs.keep(draft.id), state.jobs.start(draft.id, DRAWING))
        assert kept and started is not None and not started.draft
        await state.submit()
        assert (await state.jobs.get(draft.id)).status is Status.RUNNING


@on_both
async def test_a_draft_kept_while_the_next_job_comes_is_not_cancelled(folder: Path) -> None:
    async with opened(folder) as state:
        draft = await state.submit(draft=True)
        _job, kept = await asyncio.gather(state.submit(), state.jobs.keep(draft.id))
        assert kept
        assert (await state.jobs.get(draft.id)).status is Status.QUEUED


@on_both
async def test_a_draft_that_was_cancelled_or_is_due_is_not_kept(folder: Path) -> None:
    async with opened(folder) as state:
        cancelled = await state.submit(draft=True)
        await state.jobs.cancel(cancelled.id)
        assert not await state.jobs.keep(cancelled.id)
        assert (await state.jobs.get(cancelled.id)).draft
        due = await state.submit(draft=True)
        assert await state.draw(due)
        state.clock.now += DRAFT_TTL_S
        assert not await state.jobs.keep(due.id)
        assert (await state.jobs.get(due.id)).draft


@on_both
async def test_a_start_cancels_the_drafts_of_the_process_before(folder: Path) -> None:
    clock = Clock()
    async with opened(folder, clock) as state:
        draft = await state.started(draft=True)
    async with opened(folder, clock) as state:
        assert (await state.jobs.get(draft.id)).status is Status.CANCELLED
        assert not state.jobs.active()

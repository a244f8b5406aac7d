"""JobManager and ImageStore in process, on SQLite and on Postgres: order, ends, expiry, and a disk that refuses."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from pathlib import Path

import pytest
from served import until
from sqlalchemy.exc import DBAPIError
from state_folder import DRAWING, TTL_S, State, on_both, opened, picture, scenario

from imagegen.jobs.manager import MAX_STARTS, TOMBSTONE_S
from imagegen.schemas import Failure, Kind, Params, Refused, Status, Warn
from imagegen.storage.database import StateError, open_database, storage_failure
from imagegen.storage.errors import StorageFull

FAILURE = Failure(code="engine_died", detail="The engine died.")
TOLD = Warn(code="out_of_range", detail="Steps are out of range.")


# ---- order ----------------------------------------------------------------------------------------------------


@on_both
async def test_jobs_wait_in_order_and_know_their_position(folder: Path) -> None:
    async with opened(folder) as state:
        jobs = [await state.submit() for _ in range(3)]
        assert [state.jobs.position(job) for job in jobs] == [0, 1, 2]
        assert state.jobs.next_queued().id == jobs[0].id
        running = await state.jobs.start(jobs[0].id, DRAWING)
        assert running is not None
        assert [state.jobs.position(job) for job in (running, *jobs[1:])] == [0, 1, 2], "the running one is ahead"
        assert state.jobs.next_queued().id == jobs[1].id
        await state.jobs.cancel(jobs[1].id)
        assert await state.jobs.fail(jobs[0].id, FAILURE)
        assert state.jobs.position(await state.jobs.get(jobs[0].id)) is None
        assert state.jobs.position(jobs[2]) == 0
        assert [job.id for job in await state.jobs.list(10)] == [job.id for job in reversed(jobs)]
        assert [job.id for job in await state.jobs.list(10, before=jobs[2].seq)] == [jobs[1].id, jobs[0].id]


@on_both
async def test_a_caller_cancels_its_own_waiting_jobs_and_no_other(folder: Path) -> None:
    async with opened(folder) as state:
        running, *mine, theirs = [await state.submit(owner=owner) for owner in ("me", "me", "me", "you")]
        assert await state.jobs.start(running.id, DRAWING)
        cancelled = await state.jobs.cancel_queued("me")
        assert [job.id for job in cancelled] == [job.id for job in reversed(mine)]
        assert {job.status for job in cancelled} == {Status.CANCELLED}
        assert [one.id for one in state.jobs.active()] == [running.id, theirs.id]
        assert await state.jobs.cancel_queued("me") == []


@on_both
async def test_after_a_crash_the_running_job_is_first_and_given_up_in_the_end(folder: Path) -> None:
    async with opened(folder) as state:
        jobs = [await state.submit(prompt=str(number)) for number in range(3)]
    for attempt in range(1, MAX_STARTS + 1):
        async with opened(folder) as state:
            assert [one.id for one in state.jobs.active()] == [job.id for job in jobs]
            job = await state.jobs.start(jobs[0].id, DRAWING)
            assert (job.attempts, job.prompt) == (attempt, "0")
    async with opened(folder) as state:
        assert [one.id for one in state.jobs.active()] == [job.id for job in jobs[1:]]
        given_up = await state.jobs.get(jobs[0].id)
        assert (given_up.status, given_up.error.code) == (Status.FAILED, "gave_up")
        assert "3 times" in given_up.error.detail


@on_both
async def test_a_start_that_the_service_itself_broke_off_does_not_count(folder: Path) -> None:
    async with opened(folder) as state:
        job = await state.submit()
        for counted, attempts in ((False, 1), (False, 1), (True, 1), (False, 2)):
            assert (await state.jobs.start(job.id, DRAWING)).attempts == attempts
            await state.jobs.requeue(job.id, counted=counted)
        assert (await state.jobs.get(job.id)).status is Status.QUEUED


@on_both
async def test_a_full_queue_and_a_full_share_of_it_take_nothing(folder: Path) -> None:
    async with opened(folder, max_queue=3, max_queue_per_token=2) as state:
        first = await state.submit(owner="ann")
        await state.submit(owner="ann")
        with pytest.raises(Refused, match="token ann") as caught:
            await state.submit(owner="ann")
        assert (caught.value.status, caught.value.code) == (429, "queue_full")
        await state.submit(owner="bob")
        with pytest.raises(Refused, match="3 jobs are waiting"):
            await state.submit(owner="bob")
        await state.jobs.start(first.id, DRAWING)
        await state.submit(owner="ann")  # what runs does not wait
        assert len(await state.jobs.list(100)) == len(state.jobs.active()) == 4
        state.jobs.close()
        with pytest.raises(Refused) as closed:
            await state.submit()
        assert (closed.value.status, closed.value.code) == (503, "shutting_down")


# ---- ends -----------------------------------------------------------------------------------------------------


@on_both
async def test_a_job_ends_once(folder: Path) -> None:
    async with opened(folder) as state:
        cancelled, complete = await state.submit(), await state.submit()
        running = await state.jobs.start(cancelled.id, DRAWING)
        assert (await state.jobs.cancel(cancelled.id)).status is Status.CANCELLED
        late = await state.written()
        assert not await state.jobs.complete(running, [late])
        with pytest.raises(Refused) as missing:
            await state.images.get(late.id)
        assert missing.value.code == "image_not_found"
        assert not await state.jobs.fail(cancelled.id, FAILURE)
        assert await state.jobs.start(cancelled.id, DRAWING) is None
        assert await state.draw(complete)
        before = await state.jobs.get(complete.id)
        assert await state.jobs.cancel(complete.id) == before
        assert (before.status, len(before.images)) == (Status.COMPLETE, 1)
        assert (await state.jobs.get(cancelled.id)).images == []


@pytest.mark.parametrize("end", ["complete", "cancel", "fail"])
def test_a_finished_picture_of_a_job_stays_however_it_ends(tmp_path: Path, end: str) -> None:
    async def story() -> None:
        async with opened(tmp_path) as state:
            two = Params(width=64, height=64, steps=4, cfg_scale=1.0, sampler="euler", seed=1, n=2)
            running, again = (
                await state.started(params=two, warnings=(TOLD,)),
                Warn(code="drawn_again", detail="Drawn again."),
            )
            assert running.images == []
            first, last = [await state.written(index) for index in (0, 1)]
            assert await state.jobs.add_picture(running, first, [again])
            seen = await state.jobs.get(running.id)
            assert [(image.id, image.expires_at) for image in seen.images] == [(first.id, None)]
            assert (seen.status, seen.revision, seen.warnings) == (Status.RUNNING, running.revision + 1, [TOLD, again])
            state.clock.now += 10 * TTL_S
            await state.jobs.sweep()
            await state.jobs.requeue(running.id, counted=True)
        async with opened(tmp_path) as state:  # after a kill
            running = await state.jobs.start(running.id, DRAWING)
            assert [image.id for image in running.images] == [first.id]
            if end == "complete":
                assert await state.jobs.complete(running, [last], [again])
            elif end == "cancel":
                assert (await state.jobs.cancel(running.id)).status is Status.CANCELLED
            else:
                assert await state.jobs.fail(running.id, FAILURE)
            assert not await state.jobs.add_picture(running, last), "the job has ended"
            ended = await state.jobs.get(running.id)
            kept = [first.id, last.id] if end == "complete" else [first.id]
            assert [image.id for image in ended.images] == kept
            assert {image.expires_at for image in ended.images} == {ended.expires_at}
            assert ended.warnings == [TOLD, again], "what two runs found is said once"

    asyncio.run(story())


@on_both
async def test_a_key_that_comes_many_times_at_once_makes_one_job(folder: Path) -> None:
    async with opened(folder) as state:
        uploads = [await state.images.prepare(picture()) for _ in range(5)]
        key = {"idempotency_key": "k", "body_sha256": "0" * 64}
        submits = (state.submit(kind=Kind.EDIT, references=(one.id,), uploads=(one,), **key) for one in uploads)
        jobs = await asyncio.gather(*submits)
        assert len({job.id for job in jobs}) == len(state.jobs.active()) == 1
        visible = [one.id for one in uploads if await found(state, one.id)]
        assert visible == jobs[0].references
        with pytest.raises(Refused) as other:
            await state.jobs.find_idempotent(None, "k", "1" * 64)
        assert (other.value.status, other.value.code) == (409, "idempotency_conflict")
        assert await state.jobs.find_idempotent("ann", "k", "1" * 64) is None, "a key is its token's own"


async def found(state: State, image_id: str) -> bool:
    with contextlib.suppress(Refused):
        return (await state.images.get(image_id)).id == image_id
    return False


# ---- time -----------------------------------------------------------------------------------------------------


@on_both
async def test_jobs_and_pictures_expire_and_are_forgotten_after_a_week(folder: Path) -> None:
    async with opened(folder) as state:
        job = await state.submit(prompt="a secret")
        assert await state.draw(job)
        image = (await state.jobs.get(job.id)).images[0]
        state.clock.now += TTL_S - 1
        await state.jobs.sweep()
        assert await state.images.read(image.id) == picture().png
        state.clock.now += 1
        await state.jobs.sweep()
        for reading in (state.jobs.get(job.id), state.images.get(image.id)):
            with pytest.raises(Refused) as expired:
                await reading
            assert (expired.value.status, expired.value.code) == (410, "expired")
            assert expired.value.extra["expired_at"].startswith("2027-01-15T09:00")
        assert (state.files(), await state.jobs.list(10), await state.images.list(10)) == ([], [], [])
        assert state.run("SELECT prompt, CAST(params AS TEXT), CAST(refs AS TEXT) FROM jobs") == [("", "{}", "[]")]
        state.clock.now += TOMBSTONE_S - 1
        await state.jobs.sweep()
        with pytest.raises(Refused, match="expired at"):
            await state.jobs.get(job.id)
        state.clock.now += 1
        await state.jobs.sweep()
        for reading in (state.jobs.get(job.id), state.images.get(image.id)):
            with pytest.raises(Refused) as forgotten:
                await reading
            assert forgotten.value.status == 404


@on_both
async def test_a_reference_is_kept_until_the_job_that_needs_it_has_ended(folder: Path) -> None:
    async with opened(folder) as state:
        image, mask, unused = [await state.images.upload(picture()) for _ in range(3)]
        job = await state.submit(kind=Kind.EDIT, references=(image.id,), mask=mask.id)
        state.clock.now += 2 * TTL_S
        await state.jobs.sweep()
        assert state.files() == sorted([image.id, mask.id])
        assert not await found(state, unused.id)
        assert await state.images.read(image.id) == picture().png
        await state.jobs.start(job.id, DRAWING)
        await state.jobs.sweep()
        assert await found(state, image.id)
        await state.jobs.cancel(job.id)
        await state.jobs.sweep()
        assert state.files() == []
        assert not await found(state, image.id)


@on_both
async def test_a_clock_that_is_set_back_makes_no_job_end_before_it_began(folder: Path) -> None:
    async with opened(folder) as state:
        first, second = await state.submit(), await state.submit()
        created = state.clock.now
        state.clock.now -= 86_400
        assert (await state.jobs.start(first.id, DRAWING)).started_at == created
        assert await state.jobs.fail(first.id, FAILURE)
        ended = await state.jobs.get(first.id)
        assert (ended.finished_at, ended.expires_at) == (created, created + TTL_S)
        assert (await state.jobs.cancel(second.id)).finished_at == created
        third = await state.submit()
        assert state.jobs.position(third) == 0
        assert third.seq > second.seq, "the order is that of arrival and not that of the clock"
        await state.jobs.sweep()
        assert (await state.jobs.get(first.id)).status is Status.FAILED


@on_both
async def test_a_clock_that_is_set_forward_expires_only_what_has_ended(folder: Path) -> None:
    async with opened(folder) as state:
        ended, running, queued = [await state.submit() for _ in range(3)]
        await state.draw(ended)
        await state.jobs.start(running.id, DRAWING)
        state.clock.now += 10 * 365 * 86_400
        await state.jobs.sweep()
        assert [one.id for one in state.jobs.active()] == [running.id, queued.id]
        assert (await state.jobs.get(running.id)).status is Status.RUNNING
        assert await state.jobs.fail(running.id, FAILURE)
        assert (await state.jobs.get(running.id)).expires_at == state.clock.now + TTL_S
        assert await state.draw(queued)
        assert len((await state.jobs.get(queued.id)).images) == 1


# ---- a disk that refuses --------------------------------------------------------------------------------------


@on_both
async def test_a_job_ends_though_the_disk_refuses_and_is_written_later(folder: Path) -> None:
    async with opened(folder) as state:
        failed, cancelled, waiting = [await state.submit() for _ in range(3)]
        seen = await state.jobs.start(failed.id, DRAWING)
        with state.refusing():
            assert await state.jobs.fail(failed.id, FAILURE)
            assert (await state.jobs.cancel(cancelled.id)).status is Status.CANCELLED
            job = await state.jobs.get(failed.id)
            assert (job.status, job.error, job.progress) == (Status.FAILED, FAILURE, None)
            assert job.revision > seen.revision, "who has seen it running has not seen its end"
            assert [one.status for one in await state.jobs.list(3)] == ["queued", "cancelled", "failed"]
            assert [one.id for one in state.jobs.active()] == [waiting.id]
            assert (await state.jobs.cancel(failed.id)).status is Status.FAILED, "it has ended already"
            with pytest.raises(DBAPIError):
                await state.jobs.sweep()
        assert (await state.jobs.cancel(failed.id)).status is Status.FAILED
        assert await state.jobs.start(cancelled.id, DRAWING) is None
        await state.jobs.sweep()
        written = await state.jobs.get(failed.id)
        assert written == job
    async with opened(folder) as state:
        assert [one.id for one in state.jobs.active()] == [waiting.id], "what has ended does not run again"
        assert await state.jobs.get(failed.id) == written
        assert (await state.jobs.get(cancelled.id)).status is Status.CANCELLED


@on_both
async def test_a_picture_that_cannot_be_entered_is_none_and_its_job_can_fail(folder: Path) -> None:
    async with opened(folder) as state:
        running = await state.started()
        written = await state.written()
        with state.refusing("INSERT"):
            with pytest.raises(DBAPIError) as refused:
                await state.jobs.complete(running, [written])
            assert isinstance(storage_failure(refused.value), StorageFull)
            assert (await state.jobs.get(running.id)).status is Status.RUNNING, "half an end is no end"
            await state.images.discard([written])
            assert await state.jobs.fail(running.id, Failure(code="storage_full", detail="The disk is full."))
        assert (await state.jobs.get(running.id)).status is Status.FAILED
        assert state.files() == []


@on_both
async def test_what_is_refused_leaves_nothing_behind(folder: Path) -> None:
    async with opened(folder) as state:
        with state.refusing("INSERT"):
            with pytest.raises(DBAPIError):
                await state.submit()
            with pytest.raises(DBAPIError):
                await state.images.upload(picture())
        assert (state.jobs.active(), state.files(), await state.jobs.list(10)) == ((), [], [])
        job = await state.submit()
        with state.refusing("UPDATE"), pytest.raises(DBAPIError):
            await state.jobs.start(job.id, DRAWING)
        assert state.jobs.next_queued().id == job.id
        assert await state.draw(job)


@on_both
async def test_a_job_that_cannot_be_put_back_fails_and_does_not_vanish(folder: Path) -> None:
    async with opened(folder) as state:
        job, stopped = await state.submit(), await state.submit()
        await state.jobs.start(job.id, DRAWING)
        with state.refusing():
            await state.jobs.requeue(job.id, counted=True)
            ended = await state.jobs.get(job.id)
            assert (ended.status, ended.error.code) == (Status.FAILED, "storage_full")
            assert state.jobs.next_queued().id == stopped.id
        await state.jobs.start(stopped.id, DRAWING)
        state.jobs.close()
        with state.refusing():
            await state.jobs.requeue(stopped.id, counted=False)
    async with opened(folder) as state:
        assert stopped.id in {one.id for one in state.jobs.active()}, "the next start draws it"


@on_both
async def test_expired_pictures_make_room_though_nothing_can_be_written(folder: Path) -> None:
    async with opened(folder) as state:
        image = await state.images.upload(picture())
        state.clock.now += TTL_S
        with state.refusing():
            with pytest.raises(DBAPIError):
                await state.jobs.sweep()
            assert state.files() == []
            with pytest.raises(Refused) as expired:
                await state.images.read(image.id)
            assert (expired.value.status, expired.value.code) == (410, "expired"), "it is not damaged"
        await state.jobs.sweep()
        assert not await found(state, image.id)


@on_both
async def test_a_lease_ends_its_job_though_the_disk_refuses(folder: Path) -> None:
    async with opened(folder) as state:
        job = await state.submit(lease_s=0.05)
        with state.refusing():
            await asyncio.to_thread(until, lambda: not state.jobs.is_active(job.id), "the lease runs out", 20.0)
            assert (await state.jobs.get(job.id)).error.code == "lease_expired"


@scenario
async def test_a_database_that_is_removed_is_told_and_its_return_is_enough(folder: Path) -> None:
    async with opened(folder) as state:
        job = await state.submit()
        hidden = state.path.rename(folder / "hidden")
        for reading_or_writing in (state.submit(), state.jobs.get(job.id)):
            with pytest.raises(DBAPIError) as gone:
                await reading_or_writing
            assert "removed or replaced: restart the service" in str(storage_failure(gone.value))
        assert await state.jobs.fail(job.id, FAILURE), "the worker goes on"
        assert not state.path.exists(), "no empty database takes its place"
        hidden.rename(state.path)
        await state.jobs.sweep()
        assert (await state.jobs.get(job.id)).status is Status.FAILED


@scenario
async def test_a_database_of_a_newer_version_is_refused_and_not_changed(folder: Path) -> None:
    async with opened(folder) as state:
        await state.submit()
    with contextlib.closing(sqlite3.connect(folder / "jobs.sqlite3")) as connection:
        connection.execute("PRAGMA user_version = 99")
        connection.execute("PRAGMA journal_mode = DELETE")
    before = (folder / "jobs.sqlite3").read_bytes()
    with pytest.raises(StateError, match="last used by a newer imagegen"):
        await open_database(folder / "jobs.sqlite3")
    assert (folder / "jobs.sqlite3").read_bytes()[100:] == before[100:], "only SQLite's own header may differ"


@on_both
async def test_a_damaged_picture_is_told_and_the_others_are_read(folder: Path) -> None:
    async with opened(folder) as state:
        damaged, missing, whole = [await state.images.upload(picture()) for _ in range(3)]
        file = folder / "images" / f"{damaged.id}.png"
        file.write_bytes(file.read_bytes()[:-1] + b"?")
        (folder / "images" / f"{missing.id}.png").unlink()
        for one in (damaged, missing):
            with pytest.raises(Refused, match="missing or damaged on the server's disk") as caught:
                await state.images.read(one.id)
            assert (caught.value.status, caught.value.code) == (500, "image_damaged")
        assert await state.images.read(whole.id) == picture().png

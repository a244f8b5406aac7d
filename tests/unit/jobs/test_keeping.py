"""Kept pictures outlive every sweep with the record of their job; deleted ones are gone at once, or when unneeded."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy.exc import DBAPIError
from state_folder import TTL_S, Clock, State, on_both, opened, picture

from imagegen.images.gallery import Find
from imagegen.jobs.manager import TOMBSTONE_S
from imagegen.schemas import Kind, Params, Refused, Status, StoredImage

SEVERAL = Params(width=64, height=64, steps=4, cfg_scale=1.0, sampler="euler", seed=1, n=2)


async def refusal(state: State, image_id: str) -> tuple[int, str]:
    with pytest.raises(Refused) as caught:
        await state.images.get(image_id)
    return caught.value.status, caught.value.code


async def pass_time(state: State, seconds: float = 100 * TTL_S) -> None:
    state.clock.now += seconds
    await state.jobs.sweep()


# ---- keep -----------------------------------------------------------------------------------------------------


@on_both
async def test_a_kept_picture_and_its_job_survive_sweeps_and_restarts(folder: Path) -> None:
    clock = Clock()
    async with opened(folder, clock) as state:
        job = await state.drawn(n=2, prompt="a blue bowl")
        first, second = job.images
        assert (await state.keeper.keep(first.id, {"board": "Bowls", "note": "for Ann"})).kept_at == clock.now
        await pass_time(state)
        assert await refusal(state, second.id) == (410, "expired")
    for _ in range(2):
        async with opened(folder, clock) as state:
            await pass_time(state)
            kept = await state.images.get(first.id)
            assert (kept.board, kept.note, kept.expires_at) == ("Bowls", "for Ann", None)
            assert await state.images.read(first.id) == picture().png
            read = await state.jobs.get(job.id)
            assert (read.status, read.prompt, read.params, read.expires_at) == (
                Status.COMPLETE, "a blue bowl", job.params, None,
            )  # fmt: skip
            assert [one.id for one in read.images] == [first.id], "what has expired is no picture of the job"
            assert state.files() == [first.id]


@on_both
async def test_what_is_not_named_stays_and_null_clears_it(folder: Path) -> None:
    async with opened(folder) as state:
        [image] = (await state.drawn()).images
        wishes: list[tuple[dict[str, str | None], tuple[str | None, str | None]]] = [
            ({"board": " Cats ", "note": "\r\n one\r\ntwo "}, ("Cats", "one\ntwo")),
            ({}, ("Cats", "one\ntwo")),
            ({"note": None}, ("Cats", None)),
            ({"note": "x", "board": None}, (None, "x")),
            ({"note": "  "}, (None, None)),
        ]
        for wish, expected in wishes:
            kept = await state.keeper.keep(image.id, wish)
            assert (kept.board, kept.note) == expected
            assert kept == await state.images.get(image.id)


UNCLEAN: list[dict[str, str | None]] = [
    *({"board": name} for name in ("", "  ", "a/b", "a\\b", "..", "a\nb", "a\u202eb", "\u0007", "x" * 61)),
    *({"note": note} for note in ("a\u202eb", "\0", "x" * 1001)),
]


@on_both
async def test_a_name_or_note_that_is_not_clean_keeps_nothing(folder: Path) -> None:
    async with opened(folder) as state:
        [image] = (await state.drawn()).images
        for wish in UNCLEAN:
            with pytest.raises(Refused) as caught:
                await state.keeper.keep(image.id, wish)
            assert (caught.value.status, caught.value.code) == (422, "invalid_request"), wish
        assert await state.images.get(image.id) == image


@on_both
async def test_the_limit_counts_kept_pictures_and_is_no_obstacle_to_changes(folder: Path) -> None:
    async with opened(folder, max_kept=2) as state:
        one, two, three = (await state.drawn(n=3)).images
        await state.keeper.keep(one.id, {})
        await state.keeper.keep(two.id, {})
        with pytest.raises(Refused, match="IMAGEGEN_KEEP_MAX") as caught:
            await state.keeper.keep(three.id, {})
        assert (caught.value.status, caught.value.code) == (409, "keep_limit")
        assert (await state.keeper.keep(one.id, {"note": "changed"})).note == "changed"
        await state.keeper.release(two.id)
        await state.keeper.keep(three.id, {})
        await state.keeper.delete(one.id)
        await state.keeper.keep(two.id, {})
        assert await state.images.kept() == 2


@on_both
async def test_a_released_picture_expires_as_if_drawn_then(folder: Path) -> None:
    async with opened(folder) as state:
        job = await state.drawn()
        [image] = job.images
        assert await state.keeper.release(image.id) == image, "what is not kept stays as it is"
        await state.keeper.keep(image.id, {"board": "Cats", "note": "x"})
        await pass_time(state)
        released = await state.keeper.release(image.id)
        due = state.clock.now + TTL_S
        assert released == image.model_copy(update={"expires_at": due})
        assert (await state.jobs.get(job.id)).expires_at == due
        await pass_time(state, TTL_S)
        assert await refusal(state, image.id) == (410, "expired")
        with pytest.raises(Refused, match="expired"):
            await state.jobs.get(job.id)


@on_both
async def test_an_upload_can_be_kept(folder: Path) -> None:
    async with opened(folder) as state:
        upload = await state.images.upload(picture())
        assert await state.images.list(10) == []
        await state.keeper.keep(upload.id, {"note": "our logo"})
        await pass_time(state)
        [listed] = await state.images.list(10)
        assert (listed.id, listed.kind, listed.prompt, listed.note) == (upload.id, None, None, "our logo")


@on_both
async def test_a_kept_picture_of_a_draft_makes_it_an_ordinary_job(folder: Path) -> None:
    async with opened(folder) as state:
        draft = await state.drawn(n=2, draft=True)
        kept, other = draft.images
        await state.keeper.keep(kept.id, {})
        job, other = await state.jobs.get(draft.id), await state.images.get(other.id)
        assert (job.draft, job.expires_at, other.expires_at) == (False, None, state.clock.now + TTL_S)
        assert {one.id for one in await state.images.list(10)} == {one.id for one in draft.images}
        assert [one.id for one in await state.jobs.list(10)] == [draft.id]


@on_both
async def test_a_picture_of_a_running_job_is_kept_or_deleted_and_it_goes_on(folder: Path) -> None:
    async with opened(folder) as state:
        jobs = [await state.started(params=SEVERAL) for _ in range(2)]
        images = [await state.written() for _ in jobs]
        for job, image in zip(jobs, images, strict=True):
            assert await state.jobs.add_picture(job, image)
        (keeping, deleting), (kept, deleted) = jobs, images
        await state.keeper.keep(kept.id, {})
        await state.keeper.delete(deleted.id)
        await pass_time(state)
        for job in jobs:
            assert (await state.jobs.get(job.id)).status is Status.RUNNING
            assert await state.jobs.complete(job, [await state.written(index=1)])
        assert [one.index for one in (await state.jobs.get(deleting.id)).images] == [1]
        first, second = (await state.jobs.get(keeping.id)).images
        assert (first.id, first.expires_at) == (kept.id, None) and second.expires_at is not None
        await pass_time(state)
        assert [one.id for one in (await state.jobs.get(keeping.id)).images] == [kept.id], "the job stays with it"


@on_both
async def test_a_picture_past_its_time_cannot_be_kept_or_deleted(folder: Path) -> None:
    async with opened(folder) as state:
        [image] = (await state.drawn()).images
        state.clock.now += TTL_S  # no sweep has come yet
        for change in (state.keeper.keep(image.id, {}), state.keeper.release(image.id), state.keeper.delete(image.id)):
            with pytest.raises(Refused) as caught:
                await change
            assert (caught.value.status, caught.value.code) == (410, "expired")
        await state.jobs.sweep()
        assert state.files() == []


@on_both
async def test_keeping_while_a_sweep_runs_is_all_or_nothing(folder: Path) -> None:
    async with opened(folder) as state:
        images = [(await state.drawn()).images[0] for _ in range(20)]
        state.clock.now += TTL_S - 1

        async def keep(image: StoredImage) -> bool:
            state.clock.now += 0.1  # passes the expiry of all while they are kept
            try:
                return (await state.keeper.keep(image.id, {})).kept_at is not None
            except Refused:
                return False

        results = await asyncio.gather(*(keep(one) for one in images[:10]), state.jobs.sweep(), *map(keep, images[10:]))
        kept = [image.id for image, done in zip(images, results[:10] + results[11:], strict=True) if done]
        await state.jobs.sweep()
        assert state.files() == sorted(kept)
        for image_id in kept:
            assert await state.images.read(image_id) == picture().png


# ---- delete ---------------------------------------------------------------------------------------------------


@on_both
async def test_a_deleted_picture_is_gone_and_the_last_takes_its_job(folder: Path) -> None:
    async with opened(folder) as state:
        job = await state.drawn(n=2, prompt="a secret")
        first, second = job.images
        await state.keeper.keep(first.id, {"note": "x"})
        await state.keeper.delete(first.id)
        assert await refusal(state, first.id) == (410, "expired")
        assert state.files() == [second.id]
        left = await state.jobs.get(job.id)
        assert ([one.id for one in left.images], left.expires_at) == ([second.id], second.expires_at)
        await state.keeper.delete(second.id)
        with pytest.raises(Refused) as caught:
            await state.jobs.get(job.id)
        assert (caught.value.status, caught.value.code) == (410, "expired")
        assert not await state.images.list(10, Find(words="secret"))
        assert (await state.jobs.list(10), await state.images.list(10), state.files()) == ([], [], [])
        await pass_time(state, TOMBSTONE_S)
        assert await refusal(state, first.id) == (404, "image_not_found")


@on_both
async def test_the_source_of_an_edit_is_deleted_when_the_edit_has_ended(folder: Path) -> None:
    async with opened(folder) as state:
        source, mask = (await state.drawn(n=2)).images
        await state.keeper.keep(source.id, {})
        edit = await state.submit(kind=Kind.EDIT, references=(source.id,), mask=mask.id)
        for one in (source, mask):
            await state.keeper.delete(one.id)
            await state.jobs.sweep()
            assert await state.images.read(one.id) == picture().png, "the edit needs it"
        assert await state.images.list(10) == []
        with pytest.raises(Refused):
            await state.keeper.keep(source.id, {})
        await state.jobs.cancel(edit.id)
        await state.jobs.sweep()
        assert state.files() == []
        assert await refusal(state, source.id) == (410, "expired")


@on_both
async def test_the_pictures_of_a_job_are_deleted_but_for_the_kept(folder: Path) -> None:
    async with opened(folder) as state:
        one, two, three = (job := await state.drawn(n=3)).images
        await state.keeper.keep(two.id, {})
        found = await state.keeper.delete_of_job(job.id)
        assert (found.deleted, found.kept) == ((one.id, three.id), (two.id,))
        assert state.files() == [two.id]
        assert [image.id for image in (await state.jobs.get(job.id)).images] == [two.id]
        waiting = await state.submit()
        with pytest.raises(Refused) as caught:
            await state.keeper.delete_of_job(waiting.id)
        assert (caught.value.status, caught.value.code) == (400, "not_completed")
        await state.jobs.cancel(waiting.id)
        nothing = await state.keeper.delete_of_job(waiting.id)
        assert (nothing.deleted, nothing.kept) == ((), ())


@on_both
async def test_readers_are_woken_by_a_change(folder: Path) -> None:
    async with opened(folder) as state:
        job = await state.drawn(n=2)
        image, other = job.images
        changes = [state.keeper.keep(image.id, {}), state.keeper.release(image.id), state.keeper.delete(other.id)]
        for number, change in enumerate(changes, start=1):
            with state.jobs.changes.subscribe(job.id) as changed:
                await change
                assert changed.is_set()
            assert (await state.jobs.get(job.id)).revision == job.revision + number


# ---- a disk that refuses --------------------------------------------------------------------------------------


@on_both
async def test_on_a_full_disk_nothing_is_kept_and_deleting_makes_room(folder: Path) -> None:
    async with opened(folder) as state:
        job = await state.drawn(n=2)
        first, second = job.images
        with state.refusing():
            with pytest.raises(DBAPIError):
                await state.keeper.keep(first.id, {"note": "x"})
            with pytest.raises(DBAPIError):
                await state.keeper.keep(first.id, {})
            assert (await state.jobs.get(job.id)).images == [first, second]
            with pytest.raises(DBAPIError):
                await state.keeper.delete(second.id)
            assert state.files() == [first.id], "the file is gone, so that the disk has room"
        await state.keeper.delete(second.id)
        assert [one.id for one in (await state.jobs.get(job.id)).images] == [first.id]


@on_both
async def test_a_crash_after_a_deletion_leaves_a_file_to_the_next_start(folder: Path) -> None:
    clock = Clock()
    async with opened(folder, clock) as state:
        one, two = (await state.drawn(n=2)).images
        [file] = [path for path in (folder / "images").iterdir() if path.stem == one.id]
        held = file.read_bytes()
        await state.keeper.delete(one.id)
        file.write_bytes(held)  # as if the service had been killed before it deleted the file
    async with opened(folder, clock) as state:
        assert state.files() == [two.id]
        assert await refusal(state, one.id) == (410, "expired")


# ---- boards ---------------------------------------------------------------------------------------------------


@on_both
async def test_boards_are_listed_renamed_and_removed_and_keep_their_pictures(folder: Path) -> None:
    async with opened(folder) as state:
        one, two, three = (await state.drawn(n=3)).images
        for image, board in ((one, "zebras"), (two, "Cats"), (three, "Cats")):
            await state.keeper.keep(image.id, {"board": board})

        async def boards() -> list[tuple[str, int, str]]:
            return [(board.name, board.count, board.cover) for board in await state.boards.list()]

        assert await boards() == [("Cats", 2, three.id), ("zebras", 1, one.id)]
        for call, status, code in (
            (state.boards.rename("Cats", "zebras"), 409, "board_exists"),
            (state.boards.rename("Dogs", "x"), 404, "board_not_found"),
            (state.boards.rename("Cats", "a/b"), 422, "invalid_request"),
            (state.boards.remove("Dogs"), 404, "board_not_found"),
        ):
            with pytest.raises(Refused) as caught:
                await call
            assert (caught.value.status, caught.value.code) == (status, code)
        await state.boards.rename("Cats", "cats")
        assert await boards() == [("cats", 2, three.id), ("zebras", 1, one.id)]
        await state.boards.remove("zebras")
        await pass_time(state)
        assert await boards() == [("cats", 2, three.id)]
        assert (await state.images.get(one.id)).board is None
        await state.keeper.release(two.id)
        await state.keeper.delete(three.id)
        assert await boards() == []

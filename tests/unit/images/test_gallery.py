"""The list of pictures: every one once, page by page, and found by words, model, board, kind, date and size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from state_folder import TTL_S, State, on_both, opened, picture

from imagegen.images.gallery import Find
from imagegen.schemas import Kind


async def pages(state: State, limit: int) -> list[list[str]]:
    found, cursor = [], None
    while page := await state.images.list(limit, before=cursor):
        found.append([one.id for one in page])
        cursor = page[-1].seq
    return found


@on_both
async def test_pages_hold_each_picture_once_although_all_have_one_time(folder: Path) -> None:
    async with opened(folder) as state:
        ids = [image.id for _ in range(3) for image in (await state.drawn(n=4)).images]
        assert len({one.created_at for one in await state.images.list(20)}) == 1
        for limit in (1, 3, 5, 12):
            found = await pages(state, limit)
            assert [one for page in found for one in page] == list(reversed(ids))
            assert all(len(page) == limit for page in found[:-1])


@on_both
async def test_a_page_continues_where_it_ended_while_pictures_come_and_go(folder: Path) -> None:
    async with opened(folder) as state:
        one, two, three, four = (await state.drawn(n=4)).images
        first = await state.images.list(2)
        assert [image.id for image in first] == [four.id, three.id]
        await state.keeper.delete(three.id)
        await state.drawn()
        assert [image.id for image in await state.images.list(2, before=first[-1].seq)] == [two.id, one.id]


async def made(state: State) -> dict[str, str]:
    """Pictures by a name."""
    start = state.clock.now
    named = {"cup": (await state.drawn(prompt="A red coffee-cup, crème brûlée", model="tiny")).images[0]}
    state.clock.now = start + 10
    named["fox"] = (await state.drawn(prompt='say "NEAR(fox" OR', model="sketch", side_px=900, kind=Kind.EDIT)).images[
        0
    ]
    state.clock.now = start + 20
    named["logo"] = await state.images.upload(picture())
    await state.keeper.keep(named["logo"].id, {"board": "Brand", "note": "the red logo"})
    await state.keeper.keep(named["cup"].id, {"board": "Cups", "note": "breakfast"})
    await state.drawn(prompt="a red draft", draft=True)
    await state.images.upload(picture())
    return {image.id: name for name, image in named.items()}


FOUND: list[tuple[dict[str, Any], list[str]]] = [
    ({}, ["logo", "fox", "cup"]),
    ({"words": "red"}, ["logo", "cup"]),
    ({"words": "RED cof"}, ["cup"]),
    ({"words": "coffee-cup"}, ["cup"]),
    ({"words": "creme BRULEE"}, ["cup"]),
    ({"words": "breakfast red"}, ["cup"]),
    ({"words": "offee"}, []),
    ({"words": "blue"}, []),
    ({"words": '"NEAR(fox" OR'}, ["fox"]),
    ({"words": "NEAR(fox"}, ["fox"]),
    ({"words": "prompt:fox"}, []),
    ({"words": "red - * ^ ()"}, ["logo", "cup"]),
    ({"words": "*"}, []),
    ({"words": "fox\0"}, ["fox"]),
    ({"model": "tiny"}, ["cup"]),
    ({"board": "Cups"}, ["cup"]),
    ({"board": "cups"}, []),
    ({"kind": "edit"}, ["fox"]),
    ({"kind": "generate"}, ["cup"]),
    ({"kind": "upload"}, ["logo"]),
    ({"kept": True}, ["logo", "cup"]),
    ({"kept": False}, ["fox"]),
    ({"since": 10}, ["logo", "fox"]),
    ({"until": 10}, ["cup"]),
    ({"since": 5, "until": 15}, ["fox"]),
    ({"min_px": 9}, ["fox"]),
    ({"max_px": 8}, ["logo", "cup"]),
    ({"min_px": 900, "max_px": 900}, ["fox"]),
    ({"words": "red", "kept": True, "kind": "generate"}, ["cup"]),
]


@on_both
async def test_pictures_are_found(folder: Path) -> None:
    async with opened(folder) as state:
        start = state.clock.now
        names = await made(state)
        for asked, expected in FOUND:
            find = asked | {name: start + asked[name] for name in ("since", "until") if name in asked}
            found = [names[one.id] for one in await state.images.list(10, Find(**find))]
            assert found == expected, asked


QUOTED = [
    '"',
    '""',
    'a"b',
    "NOT",
    "AND OR",
    "col : x",
    "{a b}: c",
    "a + b",
    "^a",
    "NEAR(a b, 2)",
    "-",
    "'",
    "\\",
    "%",
    "🐈",
    "猫 犬",
]


@on_both
async def test_no_text_is_a_syntax_error(folder: Path) -> None:
    async with opened(folder) as state:
        for words in QUOTED:
            job = await state.drawn(prompt=f"x {words} y")
            found = [one.job_id for one in await state.images.list(1, Find(words=words))]
            assert found == ([job.id] if any(one.isalnum() for one in words) else []), words


@on_both
async def test_the_index_forgets_what_is_deleted_released_or_expired(folder: Path) -> None:
    async with opened(folder) as state:
        deleted, released, expired = [(await state.drawn(prompt="a walrus")).images[0] for _ in range(3)]
        await state.keeper.keep(released.id, {"note": "a narwhal"})
        await state.keeper.delete(deleted.id)
        assert {one.id for one in await state.images.list(10, Find(words="walrus"))} == {released.id, expired.id}
        assert [one.id for one in await state.images.list(10, Find(words="narwhal"))] == [released.id]
        state.clock.now += TTL_S / 2
        await state.keeper.release(released.id)
        assert await state.images.list(10, Find(words="narwhal")) == []
        state.clock.now += TTL_S / 2
        await state.jobs.sweep()
        assert [one.id for one in await state.images.list(10, Find(words="walrus"))] == [released.id]
        state.clock.now += TTL_S
        await state.jobs.sweep()

"""What pictures took of the memory: what follows for other sizes, and how it is kept."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagegen.hardware.memory_mode import Known
from imagegen.hardware.memory_needs import CPU, FAILED_FACTOR, MemoryNeed, MemoryNeeds, NeedKey
from imagegen.hardware.needs_table import ROWS_PER_MODEL, NeedsTable, read_needs
from imagegen.schemas import Kind
from imagegen.storage.database import open_database

GB = 10**9
KEY = NeedKey("tiny", 14, Kind.GENERATE, "card")


def took(pixels: int, gb: float, key: NeedKey = KEY) -> MemoryNeed:
    return MemoryNeed(key, pixels, int(gb * GB))


def failed(pixels: int, gb: float) -> MemoryNeed:
    return MemoryNeed(KEY, pixels, int(gb * GB), failed=True)


@pytest.mark.parametrize(
    ("measured", "pixels", "expected_gb", "at_least_gb"),
    [
        ([], 100, None, 0),
        ([took(100, 5)], 100, 5, 5),
        ([took(100, 5)], 50, 5, 0),
        ([took(100, 5)], 200, 6, 5),
        ([took(100, 5), took(200, 9)], 300, 13, 9),
        ([took(100, 5), took(200, 9)], 150, 9, 5),
        ([took(100, 5), took(100, 7)], 100, 7, 7),
        ([failed(100, 8)], 100, None, 8 * FAILED_FACTOR),
        ([failed(100, 8)], 200, None, 8 * FAILED_FACTOR),
        ([failed(100, 8)], 50, None, 0),
        ([failed(100, 8), took(200, 9)], 100, 9, 0),
        ([failed(100, 8), took(50, 4)], 100, 4.5, 8 * FAILED_FACTOR),
        ([took(100, 5, KEY._replace(files_bytes=15))], 100, None, 0),
        ([took(100, 5, KEY._replace(kind=Kind.EDIT))], 100, None, 0),
        ([took(100, 5, KEY._replace(mode="offload"))], 100, None, 0),
    ],
    ids=[
        *("nothing", "this size", "a larger one", "a smaller one", "two smaller ones", "between two", "the largest"),
        *("failed", "a smaller one failed", "a larger one failed", "a larger one succeeded", "a smaller one succeeded"),
        *("other files", "an edit", "another mode"),
    ],
)
def test_what_a_measurement_says_of_another_size(
    measured: list[MemoryNeed], pixels: int, expected_gb: float | None, at_least_gb: float
) -> None:
    known = MemoryNeeds(measured).known(KEY, pixels, GB // 100)
    expected = None if expected_gb is None else int(expected_gb * GB)
    assert known == Known(expected, int(at_least_gb * GB))


def test_a_streaming_engine_takes_what_it_may_so_that_is_no_lower_bound() -> None:
    stream = KEY._replace(mode="stream")
    assert MemoryNeeds([took(100, 20, stream)]).known(stream, 200, 0) == Known(20 * GB, 0)


measurements = st.lists(st.builds(took, st.integers(1, 10**7), st.floats(0.1, 80)), max_size=8)


@given(measurements, st.integers(1, 10**7))
def test_what_is_proven_is_never_more_than_expected_of_a_growing_need(measured: list[MemoryNeed], pixels: int) -> None:
    measured.sort(key=lambda one: one.pixels)
    growing = [MemoryNeed(KEY, one.pixels, (index + 1) * GB) for index, one in enumerate(measured)]
    known = MemoryNeeds(growing).known(KEY, pixels, 100)
    assert known.expected is None or known.at_least <= known.expected


def test_measurements_outlive_the_service_and_repeated_ones_are_not_stored(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite3"
    cpu = KEY._replace(mode=CPU, kind=Kind.EDIT)
    told = [took(100, 5), took(100, 5.01), failed(400, 20), failed(400, 19), took(50, 1, cpu), took(100, 6)]

    async def keep() -> MemoryNeeds:
        database = await open_database(path)
        try:
            table = NeedsTable(database, MemoryNeeds())
            for one in told:
                await table.learn(one)
            again = MemoryNeeds()
            await NeedsTable(database, again).read()
            for size in range(ROWS_PER_MODEL + 50):
                await table.learn(took(1000 + size, 1, KEY._replace(model="another")))
            return again
        finally:
            await database.close()

    again = asyncio.run(keep())
    kept = [took(50, 1, cpu), took(100, 6), failed(400, 20)]
    assert again.of("tiny", 14) == kept
    from_outside = read_needs(path)
    assert from_outside.of("tiny", 14) == kept
    assert len(from_outside.of("another", 14)) == ROWS_PER_MODEL


def test_without_a_database_nothing_is_known(tmp_path: Path) -> None:
    assert read_needs(tmp_path / "jobs.sqlite3").of("tiny", 14) == []
    (tmp_path / "jobs.sqlite3").write_bytes(b"no database")
    assert read_needs(tmp_path / "jobs.sqlite3").of("tiny", 14) == []

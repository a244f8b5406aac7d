"""What a load is expected to take, from what loads have taken."""

from __future__ import annotations

import json
from math import inf, nan

import pytest

from imagegen.idle.cold_starts import ColdStarts, came_from_disk

GIB = 2**30


def test_nothing_is_expected_before_a_load() -> None:
    assert ColdStarts().expected_s(GIB, GIB) is None


def test_disk_and_page_cache_are_learned_apart() -> None:
    loads = ColdStarts().after_load(90.0, from_disk=True).after_load(20.0, from_disk=False)
    assert loads.expected_s(files_bytes=12 * GIB, available_bytes=32 * GIB) == 20
    assert loads.expected_s(files_bytes=12 * GIB, available_bytes=8 * GIB) == 90


@pytest.mark.parametrize("from_disk", [True, False])
def test_a_kind_not_measured_yet_is_taken_to_be_like_the_other(from_disk: bool) -> None:
    loads = ColdStarts().after_load(33.0, from_disk=from_disk)
    assert loads.expected_s(GIB, 2 * GIB) == loads.expected_s(2 * GIB, GIB) == 33


def test_one_disturbed_load_changes_little_and_a_new_disk_is_believed() -> None:
    loads = ColdStarts()
    for seconds in (40, 41, 39, 300, 40):
        loads = loads.after_load(seconds, from_disk=True)
    assert loads.expected_s(2, 1) == 40
    for _ in range(3):
        loads = loads.after_load(10, from_disk=True)
    assert loads.expected_s(2, 1) == 10


def test_outlives_a_restart() -> None:
    loads = ColdStarts().after_load(90.0, from_disk=True).after_load(20.5, from_disk=False)
    assert ColdStarts.restore(json.loads(json.dumps(loads.dump()))) == loads


@pytest.mark.parametrize(
    "kept", [None, "x", {}, {"from_disk_s": 3, "from_cache_s": [None, -1, 0, nan, inf, "7", True]}]
)
def test_a_damaged_note_teaches_nothing(kept: object) -> None:
    assert ColdStarts.restore(kept) == ColdStarts()


def test_a_load_that_fetched_most_of_its_bytes_from_storage_came_from_disk() -> None:
    assert came_from_disk(read_bytes=11 * GIB, files_bytes=12 * GIB)
    assert not came_from_disk(read_bytes=GIB, files_bytes=12 * GIB)

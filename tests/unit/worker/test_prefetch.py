"""Reading ahead: the files come into the page cache, unless memory is short."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from page_cache import cached_share, drop
from served import until

from imagegen.worker.prefetch import RESERVE_BYTES, Prefetcher, ReadAhead

SIZE_BYTES = 8 * 1024 * 1024
PLENTY = 2 * RESERVE_BYTES


@pytest.fixture
def weights(tmp_path: Path, require) -> Path:
    """A file on the disk of which nothing is in the page cache."""
    path = tmp_path / "weights"
    path.write_bytes(os.urandom(SIZE_BYTES))
    drop(path)
    require("the file system of the temporary folder has no page cache to drop (tmpfs)", cached_share(path) < 0.1)
    return path


def test_what_is_read_ahead_is_in_the_page_cache(weights: Path) -> None:
    ahead = ReadAhead([weights.parent / "gone", weights], lambda: PLENTY)
    ahead.wait()
    until(lambda: cached_share(weights) == 1.0, "the kernel has fetched it")
    again = ReadAhead([weights], lambda: PLENTY)
    again.wait()
    assert again.from_storage_bytes == 0, "what is cached is not fetched again"


def test_with_little_memory_left_nothing_is_fetched(weights: Path) -> None:
    ahead = ReadAhead([weights], lambda: RESERVE_BYTES - 1)
    ahead.wait()
    assert cached_share(weights) < 0.1


def test_no_more_is_asked_for_than_was_available(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / name for name in ("first", "second", "third")]
    for path in paths:
        with path.open("wb") as file:
            file.truncate(SIZE_BYTES)
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda _file, at, length, _advice: asked.append((at, length)))
    room = SIZE_BYTES + SIZE_BYTES // 3  # all of the first file and a third of the second
    ahead = ReadAhead(paths, lambda: RESERVE_BYTES + room)
    ahead.wait()
    assert sum(length for _, length in asked) == room
    assert [at for at, _ in asked].count(0) == 2, "the first, then the second"
    asked.clear()
    ReadAhead(paths, lambda: PLENTY).wait()
    assert sum(length for _, length in asked) == 3 * SIZE_BYTES


def test_of_two_models_only_the_one_that_is_due_is_read() -> None:
    begun: list[tuple[str, ReadAhead]] = []

    def read_ahead(model: str) -> ReadAhead:
        begun.append((model, ReadAhead([], lambda: PLENTY)))
        return begun[-1][1]

    queue: list[str] = []
    jobs: Any = SimpleNamespace(queued=lambda: [SimpleNamespace(model=model) for model in queue])
    provider: Any = SimpleNamespace(find_model=str, read_ahead=read_ahead)
    prefetcher = Prefetcher(jobs, provider)
    for queue[:] in (["m"], ["m", "a", "b"], ["a", "b"], ["m", "b"], ["m"], ["b"]):
        prefetcher.look("m")
    assert [model for model, _ in begun] == ["a", "b", "b"]
    assert [ahead._stopped.is_set() for _, ahead in begun] == [True, True, False]
    prefetcher.end()
    assert begun[-1][1]._stopped.is_set()


def test_it_stops_when_it_is_told_to(weights: Path) -> None:
    asked: list[int] = []
    reached, go_on = threading.Event(), threading.Event()

    def available() -> int:
        asked.append(1)
        if len(asked) == 3:
            reached.set()
            go_on.wait(60)
        return PLENTY

    ahead = ReadAhead([weights] * 50, available)
    assert reached.wait(60)
    stopping = threading.Thread(target=ahead.stop)
    stopping.start()
    until(ahead._stopped.is_set, "it was told")
    go_on.set()
    stopping.join(60)
    assert len(asked) == 3

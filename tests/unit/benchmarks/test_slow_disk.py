"""The benchmarks' disk of known speed: true bytes, its latency, and that reading ahead fetches all from it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from page_cache import cached_share, drop
from served import until

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

from slow_disk import SlowDisk, Speed, why_not

from imagegen.worker.prefetch import RESERVE_BYTES, ReadAhead

SIZE_BYTES = 4 * 1024 * 1024 + 1234
LATENCY_S = 0.02


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[Path]:
    """A file on such a disk, and beside the mount point the one it is made of."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)  # also in CI: to mount is a right that few have
    (tmp_path / "weights").write_bytes(os.urandom(SIZE_BYTES))
    with SlowDisk([tmp_path / "weights"], tmp_path / "disk", Speed(1e9, LATENCY_S)):
        yield tmp_path / "disk" / "weights"
    assert not os.path.ismount(tmp_path / "disk")


def test_it_gives_the_files_and_takes_its_time(on_disk: Path) -> None:
    assert [path.name for path in on_disk.parent.iterdir()] == ["weights"]
    assert not (on_disk.parent / "other").exists()
    began = time.monotonic()
    assert on_disk.read_bytes() == (on_disk.parents[1] / "weights").read_bytes()
    assert time.monotonic() - began >= LATENCY_S, "no read is answered sooner than its latency"
    with pytest.raises(OSError, match="Read-only"):
        (on_disk.parent / "new").write_text("")


def test_a_drop_empties_the_page_cache_and_reading_ahead_fills_it(on_disk: Path) -> None:
    on_disk.read_bytes()
    assert cached_share(on_disk) == 1.0
    drop(on_disk)
    assert cached_share(on_disk) == 0.0
    ReadAhead([on_disk], lambda: 2 * RESERVE_BYTES).wait()
    until(lambda: cached_share(on_disk) == 1.0, "all of it is fetched, not only a window of each piece")

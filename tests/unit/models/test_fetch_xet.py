"""Fetching files that the hub serves through Xet only: hf_xet itself, against a hub and a store on the loopback."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import pytest
from hub import LoopbackHub
from served import ROOT, until
from xet import XORB_BYTES, LoopbackXet, XetFault

from imagegen.models.download import hub as hub_module
from imagegen.models.download import retry, xet
from imagegen.models.download.file import Item, download
from imagegen.models.download.hub import Hub, HubError
from imagegen.models.download.retry import FetchError, FetchStopped, RetryPolicy

WEIGHTS = hashlib.shake_256(b"large weights").digest(9 * XORB_BYTES + 1_000)
HELD = 5
"""The number of the xorb that faults are planted in."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """A hub for which every file is a large one."""
    monkeypatch.setattr(xet, "LARGEST_PLAIN_BYTES", 0)
    monkeypatch.setattr(xet, "RETRIES", 0)
    hub = LoopbackHub()
    hub.files["owner/model"] = {"model.gguf": WEIGHTS}
    hub.xet = LoopbackXet()
    yield hub
    hub.xet.close()
    hub.close()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "wait", lambda _seconds, stop: stop_here() if stop.is_set() else None)


def stop_here() -> None:
    raise FetchStopped


@pytest.fixture
def item(tmp_path: Path, hub: LoopbackHub) -> Item:
    listing = Hub(hub.url).listing("owner/model")
    (one,) = listing.files
    return Item("owner/model", listing.commit, one.path, tmp_path / one.path, len(WEIGHTS), one.sha256, None)


def had(
    item: Item,
    hub: LoopbackHub,
    stop: Event | None = None,
    came: list[int] | None = None,
    told: list[str] | None = None,
) -> None:
    """Download, with what came of it and what troubles were reported in the lists."""
    stop = stop or Event()
    policy = RetryPolicy(lambda trouble, _s: None if told is None else told.append(trouble), stop)
    download(
        item, Hub(hub.url), lambda count, new: came.append(count) if came is not None and new else None, policy, stop
    )


def test_a_large_file_comes_whole_through_xet_with_progress(
    hub: LoopbackHub, item: Item, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_tests")
    hub.token = "hf_of_the_tests"
    came: list[int] = []
    had(item, hub, came=came)
    assert item.target.read_bytes() == WEIGHTS
    assert sum(came) == len(WEIGHTS)
    assert len(came) > 1
    assert hub.reads() == [], "no byte of it over plain HTTP"
    assert [path.name for path in item.target.parent.iterdir()] == ["model.gguf"]


def test_a_stop_keeps_what_came_and_the_next_try_goes_on(hub: LoopbackHub, item: Item) -> None:
    assert hub.xet is not None
    hub.xet.faults = [XetFault(HELD, hold=True)]
    stop, came, ended = Event(), [], []

    def first() -> None:
        with pytest.raises(FetchStopped):
            had(item, hub, stop, came)
        ended.append(True)

    thread = Thread(target=first)
    thread.start()
    until(lambda: sum(came) == HELD * XORB_BYTES, "all before the block that is held is here")
    stop.set()
    thread.join()
    assert ended == [True], "while the store holds its answer back"
    assert item.part.read_bytes() == WEIGHTS[: HELD * XORB_BYTES]
    hub.xet.faults = []
    hub.xet.release()
    came.clear()
    had(item, hub, came=came)
    assert item.target.read_bytes() == WEIGHTS
    assert sum(came) == len(WEIGHTS) - HELD * XORB_BYTES
    assert hub.xet.asked[-1] == f"bytes={HELD * XORB_BYTES}-{len(WEIGHTS) - 1}"


def test_a_part_that_ends_inside_a_chunk_is_continued(hub: LoopbackHub, item: Item) -> None:
    item.part.write_bytes(WEIGHTS[:100_001])
    came: list[int] = []
    had(item, hub, came=came)
    assert item.target.read_bytes() == WEIGHTS
    assert sum(came) == len(WEIGHTS) - 100_001


REASON = "(HTTP 500|it ended early)"
"""Which of the two hf_xet reports is a race inside it."""


def test_a_store_in_trouble_is_tried_again_and_keeps_what_came(hub: LoopbackHub, item: Item) -> None:
    assert hub.xet is not None
    hub.xet.faults = [XetFault(HELD, status=500)]
    told: list[str] = []
    with pytest.raises(HubError, match=rf"Xet store .* owner/model \({REASON}\)\. Try again later"):
        had(item, hub, told=told)
    assert len(told) >= retry.TRIES - 1
    assert re.fullmatch(rf"the hub's Xet store cannot be reached, or its connection broke \({REASON}\)", told[0])
    kept = item.part.read_bytes()  # how much hf_xet hands over before it fails is a race, too
    assert WEIGHTS[: HELD * XORB_BYTES].startswith(kept)
    hub.xet.faults, came = [], []
    had(item, hub, came=came)
    assert item.target.read_bytes() == WEIGHTS
    assert sum(came) == len(WEIGHTS) - len(kept)


def test_wrong_bytes_from_the_store_are_thrown_away(hub: LoopbackHub, item: Item) -> None:
    assert hub.xet is not None
    hub.xet.faults = [XetFault(HELD, flip=True)]
    with pytest.raises(FetchError, match="wrong bytes"):
        had(item, hub)
    assert list(item.target.parent.iterdir()) == []


def test_a_store_that_is_silent_counts_as_broken(hub: LoopbackHub, item: Item, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hub.xet is not None
    monkeypatch.setattr(hub_module, "SILENCE_S", 0.5)
    monkeypatch.setattr(retry, "TRIES", 1)
    hub.xet.faults = [XetFault(HELD, hold=True)]
    with pytest.raises(HubError, match="Xet store"):
        had(item, hub)


def test_a_token_the_store_refuses_ends_the_fetch(hub: LoopbackHub, item: Item) -> None:
    """hf_xet sometimes reports the end of its writer in place of the 401, and only that is tried again."""
    assert hub.xet is not None
    hub.xet.token = "another one"
    told: list[str] = []
    with pytest.raises(HubError, match="Check HF_TOKEN"):
        had(item, hub, told=told)
    assert set(told) <= {"the connection ended early"}


def test_a_hub_without_xet_serves_a_large_file_plainly(hub: LoopbackHub, item: Item) -> None:
    hub.xet.close()
    hub.xet = None
    had(item, hub)
    assert item.target.read_bytes() == WEIGHTS
    assert len(hub.reads()) == 1
    hub.xet = LoopbackXet()  # for the fixture to close


def test_the_limit_is_the_one_of_huggingface_hub() -> None:
    from huggingface_hub import constants

    assert constants.MAX_HTTP_DOWNLOAD_SIZE == 50_000_000_000


STREAM = """
import sys
from imagegen.models.download import xet
file = xet.XetFile(sys.argv[1], int(sys.argv[2]), sys.argv[3], {})
with xet.stream(file, 0, 10.0) as chunks:
    print(sum(map(len, chunks)))
"""


def test_hf_xet_writes_nothing_into_the_users_home(hub: LoopbackHub, tmp_path: Path) -> None:
    assert hub.xet is not None
    token_url = f"{hub.url}/api/models/owner/model/xet-read-token/main"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-c", STREAM, hub.xet.store(WEIGHTS), str(len(WEIGHTS)), token_url],
        env=environment | {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout.strip(), done.stderr) == (str(len(WEIGHTS)), "")
    assert list(tmp_path.iterdir()) == []

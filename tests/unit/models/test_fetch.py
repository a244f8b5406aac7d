"""Fetching a model's files, against a hub on the loopback: what comes, what goes wrong, and what is left then."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

import pytest
from hub import COMMIT, Fault, LoopbackHub
from made_up_model import ENTRY, VISION, WEIGHTS, folder, part
from served import free_port

from imagegen.models.catalog import Catalog
from imagegen.models.download import plan as planning
from imagegen.models.download import retry
from imagegen.models.download.fetch import fetch
from imagegen.models.download.hub import Hub
from imagegen.models.download.plan import Plan
from imagegen.models.download.progress import Fetching
from imagegen.models.download.record import recorded
from imagegen.models.download.retry import FetchError, FetchStopped
from imagegen.models.licences import forbids_commercial
from imagegen.settings import Settings

pytestmark = pytest.mark.usefixtures("made_up")


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long it would have waited between tries; stopping still stops it."""
    waits: list[float] = []

    def wait(seconds: float, stop: Event) -> None:
        waits.append(seconds)
        if stop.is_set():
            raise FetchStopped

    monkeypatch.setattr(retry, "wait", wait)
    return waits


def had(hub: LoopbackHub, settings: Settings, told: list[Fetching] | None = None) -> Plan:
    heard: Callable[[Fetching], None] = (lambda _now: None) if told is None else told.append
    return fetch(Catalog.load(settings).get("made-up"), settings, Hub(hub.url), heard, Event())


def change(settings: Settings, **fields: str) -> None:
    """Change a line of the entry's file table."""
    lines = ENTRY.splitlines()
    for name, value in fields.items():
        lines = [line for line in lines if not line.startswith(f"{name} =") or "Made up" in line]
        lines.append(f"{name} = {value}")
    (settings.models_dir / "made-up.toml").write_text("\n".join(lines))


# ---- what comes -------------------------------------------------------------------------------


def test_a_file_comes_whole_with_progress_and_a_note_of_its_commit(hub: LoopbackHub, settings: Settings) -> None:
    told: list[Fetching] = []
    had(hub, settings, told)
    assert (folder(settings) / "model.gguf").read_bytes() == WEIGHTS
    assert sorted(p.name for p in folder(settings).iterdir()) == ["fetched.json", "model.gguf"]
    assert recorded(folder(settings))["model.gguf"]["commit"] == COMMIT
    assert (told[-1].file, told[-1].done_bytes, told[-1].total_bytes) == ("model.gguf", 300_000, 300_000)
    assert [now.done_bytes for now in told] == sorted(now.done_bytes for now in told)
    asked = len(hub.seen)
    had(hub, settings)
    assert len(hub.seen) == asked, "what is there is not asked for again"


def test_a_small_file_is_checked_with_gits_checksum(hub: LoopbackHub, settings: Settings) -> None:
    hub.small.add("model.gguf")
    hub.faults = [Fault(flip=True)]
    with pytest.raises(FetchError, match="wrong bytes"):
        had(hub, settings)
    had(hub, settings)
    assert (folder(settings) / "model.gguf").read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    ("faults", "ranges"),
    [
        ([Fault(cut_after=100_000)], [None, "bytes=100000-"]),
        ([Fault(cut_after=100_000), Fault(cut_after=0), Fault(status=503)], [None] + 3 * ["bytes=100000-"]),
        ([Fault(cut_after=100_000), Fault(no_ranges=True)], [None, "bytes=100000-"]),
        ([Fault(status=429, headers={"Retry-After": "7"})], [None, None]),
    ],
    ids=["cut", "cut, silent, 503", "ranges ignored", "429"],
)
def test_a_broken_connection_goes_on_where_it_was(
    hub: LoopbackHub, settings: Settings, faults: list[Fault], ranges: list[str | None], no_waiting: list[float]
) -> None:
    hub.faults = faults
    had(hub, settings)
    assert (folder(settings) / "model.gguf").read_bytes() == WEIGHTS
    assert [one.range for one in hub.reads()] == ranges
    if ranges[-1] is None:
        assert no_waiting == [7.0], "as long as the hub asked for"


def test_what_an_earlier_try_left_is_continued_or_if_damaged_fetched_anew(hub: LoopbackHub, settings: Settings) -> None:
    folder(settings).mkdir()
    part(settings).write_bytes(WEIGHTS[:200_000])
    had(hub, settings)
    assert [one.range for one in hub.reads()] == ["bytes=200000-"]
    assert (folder(settings) / "model.gguf").read_bytes() == WEIGHTS

    (folder(settings) / "model.gguf").unlink()
    part(settings).write_bytes(bytes(200_000))
    had(hub, settings)
    assert [one.range for one in hub.reads()][1:] == ["bytes=200000-", None]
    assert (folder(settings) / "model.gguf").read_bytes() == WEIGHTS


def test_the_token_goes_to_the_hub_and_not_to_where_it_redirects(
    hub: LoopbackHub, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.token = "hf_of_the_tests"
    monkeypatch.setenv("HF_TOKEN", hub.token)
    had(hub, settings)
    assert {one.authorization for one in hub.seen if one.host == "127.0.0.1"} == {"Bearer hf_of_the_tests"}
    assert [one.authorization for one in hub.reads()] == [None]


def test_a_pattern_takes_the_first_match_and_tells_the_others(hub: LoopbackHub, settings: Settings) -> None:
    hub.files["owner/model"] = {"b-q4.gguf": WEIGHTS, "a-q4.gguf": WEIGHTS[:1000], "c.gguf": b"c"}
    change(settings, file='"*-q4.gguf"', path='"*-q4.gguf"')
    assert had(hub, settings).remarks == ["*-q4.gguf of owner/model: a-q4.gguf is taken; it fits b-q4.gguf too."]
    assert (folder(settings) / "a-q4.gguf").read_bytes() == WEIGHTS[:1000]
    assert Catalog.load(settings).get("made-up").installed(settings)


def test_a_hub_in_trouble_at_its_listing_is_waited_for_and_that_is_told(
    hub: LoopbackHub, settings: Settings, no_waiting: list[float]
) -> None:
    told: list[Fetching] = []
    hub.listing_faults = [Fault(status=429, headers={"Retry-After": "120"}), Fault(status=503)]
    had(hub, settings, told)
    assert no_waiting == [120.0, 2.0]
    waits = [now for now in told if now.trouble is not None]
    assert str(waits[0]) == ("the hub takes no more requests now (HTTP 429) and asks to wait; the next try is in 120 s")
    assert [now.left_s for now in waits] == [None, None]


@pytest.mark.parametrize("repo", [{}, {"other.gguf": b"x"}], ids=["no repository", "no such file"])
def test_an_optional_file_that_cannot_be_had_stops_nothing(
    hub: LoopbackHub, settings: Settings, repo: dict[str, bytes]
) -> None:
    (settings.models_dir / "made-up.toml").write_text(ENTRY + VISION)
    if repo:
        hub.files["owner/vision"] = repo
    todo = had(hub, settings)
    assert (folder(settings) / "model.gguf").read_bytes() == WEIGHTS
    (remark,) = todo.remarks
    assert "owner/vision" in remark and "works without it" in remark
    assert todo.again is None, "another try would find the same"


def test_an_optional_file_that_breaks_off_is_for_another_time(hub: LoopbackHub, settings: Settings) -> None:
    (settings.models_dir / "made-up.toml").write_text(ENTRY.replace("[[files]]", VISION + "[[files]]"))
    hub.files["owner/vision"] = {"vision.gguf": WEIGHTS}
    hub.faults = [Fault(), *(20 * [Fault(status=503)])]
    todo = had(hub, settings)
    assert (folder(settings) / "model.gguf").exists(), "what is needed comes first, wherever the entry has it"
    assert not (folder(settings) / "vision.gguf").exists()
    assert todo.again == "the hub is in trouble (HTTP 503)"


def test_a_stall_and_a_wait_are_not_told_as_speed() -> None:
    moving = Fetching("dit.gguf", 1_000_000, 3_000_000, 500_000.0, at=100.0)
    assert moving.seen(100.5).words == "dit.gguf: 1.0 MB of 3.0 MB, 0.5 MB/s, about 4 s left"
    assert moving.seen(112.0).words == "dit.gguf: 1.0 MB of 3.0 MB, nothing has come for 12 s"
    assert moving.seen(112.0).left_s is None
    waiting = Fetching("dit.gguf", 1_000_000, 3_000_000, None, "the hub asks to wait", 300.0, at=100.0)
    assert waiting.seen(130.0).words == "dit.gguf: 1.0 MB of 3.0 MB, and the hub asks to wait; the next try is in 270 s"
    done = Fetching("dit.gguf", 3_000_000, 3_000_000, 500_000.0, at=100.0)
    assert done.seen(100.0).words == "dit.gguf: 3.0 MB of 3.0 MB, 0.5 MB/s"


# ---- what goes wrong --------------------------------------------------------------------------


def refused(hub: LoopbackHub, settings: Settings) -> str:
    """The sentence of a fetch that fails and leaves no file in its place."""
    with pytest.raises(FetchError) as error:
        had(hub, settings)
    assert not (folder(settings) / "model.gguf").exists()
    assert str(settings.home) not in str(error.value), "jobs show this sentence to callers"
    return str(error.value)


def test_wrong_bytes_are_thrown_away(hub: LoopbackHub, settings: Settings) -> None:
    hub.faults = [Fault(flip=True)]
    assert "wrong bytes" in refused(hub, settings)
    assert not part(settings).exists()


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (Fault(status=401), "HF_TOKEN"),
        (Fault(status=403, headers={"X-Error-Code": "GatedRepo"}), "accepted its terms"),
        (Fault(status=404), "has no owner/model"),
        (Fault(status=500), "in trouble"),
        (Fault(status=418), "HTTP 418"),
    ],
)
def test_a_hub_that_refuses_is_told_with_what_to_do(
    hub: LoopbackHub, settings: Settings, fault: Fault, told: str
) -> None:
    hub.listing_faults = 20 * [fault]
    assert told in refused(hub, settings)
    assert len(hub.seen) == (retry.TRIES if fault.status == 500 else 1)
    hub.listing_faults, hub.faults = [], 20 * [fault]
    assert told in refused(hub, settings)
    assert len(hub.reads()) == (retry.TRIES if fault.status == 500 else 1)


def test_a_hub_that_takes_no_more_requests_is_asked_a_few_times_only(
    hub: LoopbackHub, settings: Settings, no_waiting: list[float]
) -> None:
    limit = {"ratelimit": '"api";r=0;t=3600', "ratelimit-policy": '"fixed window";"api";q=500;w=300'}
    hub.faults = 20 * [Fault(status=429, headers=limit)]
    assert "no more requests" in refused(hub, settings)
    assert no_waiting == (retry.TRIES - 1) * [retry.LONGEST_WAIT_S]


def test_a_hub_that_is_not_there_is_told_in_a_sentence(settings: Settings) -> None:
    with pytest.raises(FetchError, match=r"cannot be reached.*HF_ENDPOINT"):
        fetch(
            Catalog.load(settings).get("made-up"),
            settings,
            Hub(f"http://127.0.0.1:{free_port()}"),
            lambda _now: None,
            Event(),
        )


def test_a_server_that_is_no_hub_is_told(hub: LoopbackHub, settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
                connection.close()

        Thread(target=answer, daemon=True).start()
        with pytest.raises(FetchError, match="as a model hub does"):
            address = f"http://127.0.0.1:{listener.getsockname()[1]}"
            fetch(Catalog.load(settings).get("made-up"), settings, Hub(address), lambda _now: None, Event())


def test_a_miss_lists_what_is_there(hub: LoopbackHub, settings: Settings) -> None:
    change(settings, path='"model-q8.gguf"')
    assert "has no model-q8.gguf. It has: README.md, model.gguf." in refused(hub, settings)


def test_a_file_that_was_changed_on_the_hub_is_not_fetched(hub: LoopbackHub, settings: Settings) -> None:
    change(settings, sha256=f'"{"0" * 64}"')
    assert "another sha256 on the hub" in refused(hub, settings)
    assert hub.reads() == []


def test_a_name_that_leads_out_of_the_folder_is_refused(hub: LoopbackHub, settings: Settings) -> None:
    hub.files["owner/model"] = {"../../evil.gguf": WEIGHTS}
    change(settings, file='"*.gguf"', path='"*.gguf"')
    assert "leads out" in refused(hub, settings)


def test_a_disk_that_is_too_small_is_told_before_a_byte_comes(
    hub: LoopbackHub, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(settings.home)
    monkeypatch.setattr(planning, "SPARE_BYTES", usage.free)
    assert "Make room" in refused(hub, settings)
    assert hub.reads() == []


def fill(path: Path, leave: int) -> None:
    """Write until the disk is full, then give `leave` bytes back: what somebody else writes meanwhile is no matter."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    os.truncate(path, path.stat().st_size - leave)


def test_a_disk_that_fills_up_meanwhile_is_told_and_what_came_is_kept(
    hub: LoopbackHub, tmp_path: Path, require: Callable[[str, bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "disk"
    home.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", home], capture_output=True)
    require("a small disk: only root may mount one", mounted.returncode == 0)
    try:
        monkeypatch.setattr(planning, "SPARE_BYTES", 0)
        (home / "models").mkdir()
        (home / "models" / "made-up.toml").write_text(ENTRY)
        settings = Settings(home=home)
        hub.faults = [Fault(hold_after=100_000)]
        failures: list[FetchError] = []

        def run() -> None:
            try:
                had(hub, settings)
            except FetchError as failure:
                failures.append(failure)

        running = Thread(target=run)
        running.start()
        assert hub.held.wait(30)
        fill(home / "filler", 40_960)
        hub.release()
        running.join(30)
        assert "No space left on device" in str(failures[0])
        assert part(settings).stat().st_size > 0
        (home / "filler").unlink()
        had(hub, settings)
        assert (folder(settings) / "model.gguf").read_bytes() == WEIGHTS
    finally:
        subprocess.run(["umount", "--lazy", home], check=True)


def test_stopped_it_ends_at_once_and_keeps_what_came(hub: LoopbackHub, settings: Settings) -> None:
    hub.faults = [Fault(hold_after=100_000)]
    stop, ended = Event(), Event()

    def run() -> None:
        with pytest.raises(FetchStopped):
            fetch(Catalog.load(settings).get("made-up"), settings, Hub(hub.url), lambda _now: None, stop)
        ended.set()

    Thread(target=run, daemon=True).start()
    assert hub.held.wait(30)
    stop.set()
    hub.release()
    assert ended.wait(30)
    assert part(settings).exists()


def test_a_file_in_the_place_of_the_models_folder_is_told(hub: LoopbackHub, settings: Settings) -> None:
    entry = Catalog.load(settings).get("made-up")
    shutil.rmtree(settings.models_dir)
    settings.models_dir.touch()
    with pytest.raises(FetchError, match="models is to be a folder, and is a file"):
        fetch(entry, settings, Hub(hub.url), lambda _now: None, Event())


@pytest.mark.parametrize(
    ("stated", "forbids"),
    [
        ("cc-by-nc-4.0", True),
        ("CC BY-NC-ND 4.0", True),
        ("flux-1-dev-non-commercial-license", True),
        ("stabilityai-ai-community", False),
        ("apache-2.0", False),
        ("openrail++", False),
        ("ncsa", False),
        ("other", False),
    ],
)
def test_what_a_licences_name_says(stated: str, forbids: bool) -> None:
    assert forbids_commercial(stated) is forbids

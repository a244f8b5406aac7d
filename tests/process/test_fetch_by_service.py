"""The service fetches a model by itself: it is up meanwhile, jobs wait and say how far it is, a stop loses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from click.testing import CliRunner
from hub import Fault, LoopbackHub, far_away, tiny_hub
from served import Service, until

from imagegen.app import App
from imagegen.cli.client import Service as Client
from imagegen.cli.delivery import follow
from imagegen.cli.status import status as status_command
from imagegen.engines.base import EngineError
from imagegen.hardware.gpu import Gpu
from imagegen.models.catalog import GPU_DEFAULT, Catalog, missing_sentence
from imagegen.models.download.background import Fetcher, may_fetch
from imagegen.models.download.hub import Hub
from imagegen.models.download.progress import Fetching
from imagegen.settings import Settings


@pytest.fixture
def hub(models_dir: Path) -> Iterator[LoopbackHub]:
    with tiny_hub(models_dir) as hub:
        yield hub


@pytest.fixture
def fetching(serve: Callable[..., Service], home: Path, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`fetching(**settings)`: a service whose entry `far` is the tiny model, on the hub."""
    hub.offer_tiny(home, monkeypatch)
    return lambda **settings: serve(**({"auto_fetch": "on"} | settings))


def progress(service: Service, job: dict[str, Any]) -> dict[str, Any]:
    return service.job(job["job_id"])["progress"] or {}


def test_a_job_waits_in_phase_fetching_with_its_bytes_and_then_is_drawn(fetching: Any, hub: LoopbackHub) -> None:
    hub.faults = [Fault(hold_after=1_000_000)]
    service = fetching()
    job = service.submit(model="far")
    until(lambda: (progress(service, job).get("bytes_done") or 0) > 900_000, "the job tells the bytes")
    told = progress(service, job)
    total = sum(map(len, hub.files["owner/tiny"].values()))
    assert (told["phase"], told["bytes_total"]) == ("fetching", total)
    assert told["fraction"] == pytest.approx(told["bytes_done"] / total)
    assert "dit.gguf" in told["detail"]
    assert service.http.get("/readyz").status_code == 200
    hub.release()
    assert service.ended(job["job_id"])["status"] == "complete"
    assert len(hub.reads()) == 3


def test_a_cancelled_job_stops_the_download_and_the_next_goes_on_with_it(
    fetching: Any, hub: LoopbackHub, home: Path
) -> None:
    hub.faults = [Fault(hold_after=1_000_000)]
    service = fetching()
    job = service.submit(model="far")
    until(lambda: progress(service, job).get("phase") == "fetching", "it is fetched")
    assert hub.held.wait(30)
    assert service.http.delete(f"/api/jobs/{job['job_id']}").json()["status"] == "cancelled"
    assert service.draw()["status"] == "complete", "the worker is free for other models"
    hub.release()
    again = service.ended(service.submit(model="far")["job_id"])
    assert again["status"] == "complete"
    assert [one.path.rsplit("/", 1)[-1] for one in hub.reads()].count("dit.gguf") == 2
    assert hub.reads()[1].range is not None


def test_a_stop_interrupts_a_download_and_the_next_start_goes_on(fetching: Any, hub: LoopbackHub, home: Path) -> None:
    hub.faults = [Fault(hold_after=1_000_000)]
    service = fetching(model="far")
    assert hub.held.wait(30), "it began without a job"
    job = service.submit()
    until(lambda: progress(service, job).get("phase") == "fetching", "the job waits for it")
    service.terminate()
    until(lambda: "imagegen stopping" in service.tail(), "it is told to stop")
    hub.release()
    assert service.wait() == 0
    assert list((home / "models" / "far").glob(".dit.gguf.*.part"))
    service.restart()
    assert service.ended(job["job_id"])["status"] == "complete"
    assert hub.reads()[1].range is not None
    assert service.job(job["job_id"])["attempts"] == 1, "the interrupted start does not count"


def test_a_download_that_fails_is_told_with_its_reason(fetching: Any, hub: LoopbackHub) -> None:
    del hub.files["owner/tiny"]["llm.gguf"]
    service = fetching()
    failed = service.ended(service.submit(model="far")["job_id"])
    assert failed["error"]["code"] == "fetch_failed"
    assert "has no llm.gguf. It has: dit.gguf, tae.gguf." in failed["error"]["detail"]
    assert service.draw()["status"] == "complete", "other models go on"


def test_the_first_start_on_a_gpu_fetches_the_default_model_without_a_job(
    hub: LoopbackHub, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The card is a stand-in, and so is the default model: an entry of its name with the tiny model's files."""
    (home / "models" / f"{GPU_DEFAULT}.toml").write_text(far_away())
    monkeypatch.setattr("imagegen.hardware.gpu.read", lambda *_pid: Gpu("a card", 24 * 10**9, 24 * 10**9, None))
    monkeypatch.setattr("imagegen.models.download.background.Hub", lambda: Hub(hub.url))

    async def first_start() -> None:
        app = App(Settings(home=home, sd_server=home / "none"))
        await app.start()
        try:
            assert app.default_entry.name == GPU_DEFAULT
            entry, settings = app.default_entry, app.settings
            await asyncio.to_thread(until, lambda: entry.installed(settings), "the model is there")
        finally:
            await app.stop()

    asyncio.run(first_start())
    assert len(hub.reads()) == 3


def with_vision(hub: LoopbackHub) -> str:
    """The same entry with an optional file on the hub, which the engine is not told of: the tiny model has no use."""
    hub.files["owner/vision"] = {"vision.gguf": bytes(2_000_000)}
    table = '[[files]]\nrole = "llm_vision"\nfile = "vision.gguf"\nshared = "far"\nrepo = "owner/vision"\n'
    return f"{far_away()}\n{table}optional = true\n"


def test_what_is_fetched_is_in_the_status_and_on_the_command_line(
    fetching: Any, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.faults = [Fault(hold_after=1_000_000), *(99 * [Fault(hold_after=0)])]  # a silent connection is given up
    service = fetching()
    assert service.status()["engine"]["fetch"] is None
    job = service.submit(model="far")
    assert hub.held.wait(30)
    until(lambda: (fetch_of(service).get("bytes_done") or 0) > 900_000, "the status tells the bytes")
    told = fetch_of(service)
    total = sum(map(len, hub.files["owner/tiny"].values()))
    assert (told["model"], told["file"], told["bytes_total"]) == ("far", "dit.gguf", total)
    shown = CliRunner().invoke(status_command, ["--url", service.url]).output
    assert "fetch   far: dit.gguf: " in shown and f"of {total / 1e6:.1f} MB" in shown
    until(lambda: "nothing has come" in fetch_of(service)["detail"], "a stall is told as one")
    assert fetch_of(service)["left_s"] is None
    until(lambda: progress(service, job)["left_s"] is None, "nor is a time told that nobody knows")
    said: list[str] = []
    monkeypatch.setattr("click.echo", lambda text, **_how: said.append(text))
    follower = Thread(target=lambda: follow(Client(service.url), service.job(job["job_id"])), daemon=True)
    follower.start()
    until(lambda: any(line.startswith("fetching dit.gguf: ") for line in said), "whoever draws is told the bytes")
    hub.release()
    assert service.ended(job["job_id"])["status"] == "complete"
    follower.join(30)
    assert service.status()["engine"]["fetch"] is None


def fetch_of(service: Service) -> dict[str, Any]:
    return service.status()["engine"]["fetch"] or {}


def test_a_hub_that_asks_to_wait_is_waited_for_and_the_job_says_so(fetching: Any, hub: LoopbackHub) -> None:
    hub.listing_faults = [Fault(status=429, headers={"Retry-After": "300"})]
    service = fetching()
    job = service.submit(model="far")
    until(lambda: "asks to wait" in (progress(service, job).get("detail") or ""), "the job tells why it waits")
    told = progress(service, job)
    assert (told["phase"], told["left_s"]) == ("fetching", None)
    assert "(HTTP 429) and asks to wait; the next try is in " in told["detail"]
    assert service.job(job["job_id"])["status"] == "running"
    assert "asks to wait" in fetch_of(service)["detail"]


def test_a_lost_optional_file_comes_by_itself_and_no_job_waits_for_it(
    fetching: Any, hub: LoopbackHub, home: Path
) -> None:
    """As after an interruption: what the model needs is here, and its vision tower is not."""
    (home / "models" / "far.toml").write_text(with_vision(hub))
    (home / "models" / "far").symlink_to(home / "models" / "tiny", target_is_directory=True)
    hub.faults = [Fault(hold_after=1_000_000)]
    service = fetching()
    assert service.draw(model="far")["status"] == "complete"
    assert hub.held.wait(30), "the first load began it"
    assert not (home / "models" / "far" / "vision.gguf").exists()
    assert fetch_of(service)["file"] == "vision.gguf"
    hub.release()
    until((home / "models" / "far" / "vision.gguf").exists, "it came without a job")


def test_the_default_models_optional_file_comes_at_the_start(fetching: Any, hub: LoopbackHub, home: Path) -> None:
    (home / "models" / "far.toml").write_text(with_vision(hub))
    (home / "models" / "far").symlink_to(home / "models" / "tiny", target_is_directory=True)
    fetching(model="far")
    until((home / "models" / "far" / "vision.gguf").exists, "it came without a job")


def test_what_the_hub_gives_for_no_commercial_use_is_left_to_a_person(
    fetching: Any, hub: LoopbackHub, home: Path
) -> None:
    hub.licence = "cc-by-nc-4.0"
    service = fetching()
    failed = service.ended(service.submit(model="far")["job_id"])
    assert failed["error"]["code"] == "fetch_failed"
    assert "owner/tiny under cc-by-nc-4.0" in failed["error"]["detail"]
    assert "imagegen models fetch far" in failed["error"]["detail"]
    assert hub.reads() == []


async def tried(hub: LoopbackHub, home: Path, mend: Callable[[], None], job: bool) -> list[Fetching]:
    """A download that the service began, until it is there; what a job that waits for it was told."""
    settings = Settings(home=home)
    entry = Catalog.load(settings).get("far")
    fetcher, told = Fetcher(settings), list[Fetching]()
    fetcher.begin(entry)
    waiting = asyncio.create_task(fetcher.have(entry, told.append)) if job else None
    try:
        await asyncio.to_thread(until, lambda: len(hub.seen) >= 3, "it is tried again and again")
        assert not entry.installed(settings)
        mend()
        await asyncio.to_thread(until, lambda: entry.installed(settings), "the model is there")
        if waiting is not None:
            await asyncio.wait_for(waiting, 60)
    finally:
        await fetcher.stop()
    return told


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch, home: Path, hub: LoopbackHub) -> Path:
    """Each try is given up at its first trouble, and the next one comes soon."""
    (home / "models" / "far.toml").write_text(far_away())
    monkeypatch.setattr("imagegen.models.download.retry.TRIES", 1)
    monkeypatch.setattr("imagegen.models.download.background.FIRST_PAUSE_S", 0.05)
    monkeypatch.setattr("imagegen.models.download.background.Hub", lambda: Hub(hub.url))
    return home


def test_a_download_the_service_began_outlives_an_outage_and_its_jobs_wait(hub: LoopbackHub, impatient: Path) -> None:
    hub.listing_faults = 500 * [Fault(status=503)]
    told = asyncio.run(tried(hub, impatient, hub.listing_faults.clear, job=True))
    assert any("the hub is in trouble (HTTP 503); the next try is in" in str(now) for now in told)


def test_a_download_the_service_began_is_tried_again_after_a_refusal_too(hub: LoopbackHub, impatient: Path) -> None:
    files = hub.files.pop("owner/tiny")
    asyncio.run(tried(hub, impatient, lambda: hub.files.update({"owner/tiny": files}), job=False))


def test_a_job_is_told_a_refusal_at_once_and_the_next_one_tries_anew(
    hub: LoopbackHub, impatient: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagegen.models.download.background.FIRST_PAUSE_S", 3600.0)
    files = hub.files.pop("owner/tiny")

    async def two_jobs() -> None:
        settings = Settings(home=impatient)
        entry = Catalog.load(settings).get("far")
        fetcher = Fetcher(settings)
        fetcher.begin(entry)
        try:
            with pytest.raises(EngineError, match="has no owner/tiny"):
                await fetcher.have(entry, lambda _now: None)
            hub.files["owner/tiny"] = files
            await asyncio.wait_for(fetcher.have(entry, lambda _now: None), 60)
            assert entry.installed(settings)
        finally:
            await fetcher.stop()

    asyncio.run(two_jobs())


def test_offline_it_promises_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    qwen = Catalog.packaged().get("qwen-image-edit-2511")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert not may_fetch(qwen, "on", is_default=True, has_gpu=True)
    assert "Unset HF_HUB_OFFLINE" in missing_sentence(qwen, Settings(home=tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert may_fetch(qwen, "on", is_default=True, has_gpu=True)
    assert "Unset" not in missing_sentence(qwen, Settings(home=tmp_path))


def test_what_it_may_fetch_by_itself() -> None:
    entries = Catalog.packaged()
    qwen, turbo, tiny = (entries.get(name) for name in ("qwen-image-edit-2511", "sd-turbo", "tiny"))
    assert may_fetch(qwen, "auto", is_default=True, has_gpu=True)
    assert not may_fetch(qwen, "auto", is_default=True, has_gpu=False)
    assert not may_fetch(qwen, "auto", is_default=False, has_gpu=True)
    assert not may_fetch(qwen, "off", is_default=True, has_gpu=True)
    assert may_fetch(qwen, "on", is_default=False, has_gpu=False)
    assert not may_fetch(turbo, "on", is_default=True, has_gpu=True), "its licence has to be read first"
    assert not may_fetch(tiny, "on", is_default=True, has_gpu=True), "no hub has it"

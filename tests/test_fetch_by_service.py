"""The service fetches a model by itself: it is up meanwhile, jobs wait and say how far it is, a stop loses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hub import Fault, LoopbackHub
from served import Service, until

from imagegen.backend import Backend
from imagegen.fetcher import may_fetch
from imagegen.gpu import Gpu
from imagegen.models.catalog import GPU_DEFAULT, Catalog
from imagegen.models.hub import Hub
from imagegen.settings import Settings

FILES = {"diffusion_model": "dit.gguf", "llm": "llm.gguf", "tae": "tae.gguf"}
FLAGS = {"diffusion_model": "--diffusion-model", "llm": "--llm", "tae": "--tae"}


@pytest.fixture
def hub(models_dir: Path) -> Iterator[LoopbackHub]:
    """Has the tiny model's files."""
    hub = LoopbackHub()
    hub.files["owner/tiny"] = {name: (models_dir / "tiny" / name).read_bytes() for name in FILES.values()}
    yield hub
    hub.close()


def far_away(title: str = "Far away") -> str:
    """An entry's file: the tiny model, on the hub."""
    tables = [
        f'[[files]]\nrole = "{role}"\nflag = "{FLAGS[role]}"\nfile = "{file}"\nshared = "far"\n'
        f'repo = "owner/tiny"\npath = "{file}"\n'
        for role, file in FILES.items()
    ]
    return f'base = "tiny"\ntitle = "{title}"\n' + "\n".join(tables)


@pytest.fixture
def fetching(serve: Callable[..., Service], home: Path, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`fetching(**settings)`: a service whose entry `far` is the tiny model, on the hub."""
    (home / "models" / "far.toml").write_text(far_away())
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_HOME", str(home / "hf"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
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


def test_a_cancelled_job_lets_the_download_go_and_the_next_one_goes_on_with_it(
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


def test_a_stop_interrupts_the_default_models_download_and_the_next_start_goes_on(
    fetching: Any, hub: LoopbackHub, home: Path
) -> None:
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
    monkeypatch.setattr("imagegen.gpu.read", lambda *_pid: Gpu("a card", 24 * 10**9, 24 * 10**9, None))
    monkeypatch.setattr("imagegen.fetcher.Hub", lambda: Hub(hub.url))

    async def first_start() -> None:
        backend = Backend(Settings(home=home, sd_server=home / "none"))
        await backend.start()
        try:
            assert backend.default_entry.name == GPU_DEFAULT
            entry, settings = backend.default_entry, backend.settings
            await asyncio.to_thread(until, lambda: entry.installed(settings), "the model is there")
        finally:
            await backend.stop()

    asyncio.run(first_start())
    assert len(hub.reads()) == 3


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

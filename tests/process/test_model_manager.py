"""A running service fetches and removes models on request: what it asks, refuses, and does meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from hub import Fault, LoopbackHub, tiny_hub
from served import Service, until

from imagegen.cli.models import models as command

FETCH, FILES = "/api/models/far/fetch", "/api/models/far/files"


@pytest.fixture(scope="module")
def hub(models_dir: Path) -> Iterator[LoopbackHub]:
    with tiny_hub(models_dir) as hub:
        yield hub


@pytest.fixture(scope="module")
def manager(hub: LoopbackHub, models_dir: Path, sd_server: Path, tmp_path_factory: Any) -> Iterator[Service]:
    """A service that fetches nothing by itself; its entry `far` is the tiny model, on the hub."""
    home = tmp_path_factory.mktemp("manager") / "home"
    (home / "models").mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        hub.offer_tiny(home, patch, shared=False)
        service = Service(home, sd_server, {"auto_fetch": "off", "idle_timeout": "never"})
        service.start()
    yield service
    service.end()


@pytest.fixture(autouse=True)
def clean(hub: LoopbackHub, manager: Service) -> None:
    """Each test begins with nothing fetched and a hub without faults."""
    hub.release()
    hub.faults, hub.listing_faults, hub.licence = [], [], "apache-2.0"
    manager.http.delete(FETCH)
    until(lambda: not model(manager)["fetching"], "no download runs")
    assert manager.http.delete(FILES).status_code == 200
    hub.hold_again()


def model(service: Service) -> dict[str, Any]:
    return next(one for one in service.http.get("/api/models").json()["items"] if one["name"] == "far")


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def fetched(service: Service) -> None:
    assert service.http.post(FETCH).status_code == 202
    until(lambda: model(service)["installed"] and not model(service)["fetching"], "it is fetched")


def test_a_model_is_fetched_drawn_with_and_removed(manager: Service, hub: LoopbackHub) -> None:
    plan = manager.http.get(FETCH).json()
    total = sum(map(len, hub.files["owner/tiny"].values()))
    assert (plan["bytes_total"], len(plan["files"]), plan["licence_question"]) == (total, 3, None)
    assert code(manager.http.post("/api/generate", json={"prompt": "x", "model": "far"})) == (422, "model_missing")
    fetched(manager)
    assert manager.http.get(FETCH).json()["files"] == []
    manager.draw(model="far")
    assert manager.status()["engine"]["state"] == "ready"
    held = manager.http.get(FILES).json()
    assert held["freed_bytes"] >= total
    assert {"file": "far/dit.gguf", "kept": None}.items() <= held["files"][0].items()
    removed = manager.http.delete(FILES).json()
    assert removed == held
    assert manager.status()["engine"]["state"] == "cold", "it was unloaded first"
    assert not model(manager)["installed"] and not (manager.home / "models" / "far").exists()


def test_a_download_is_watched_stopped_and_resumed_and_a_job_waits_for_it(manager: Service, hub: LoopbackHub) -> None:
    hub.faults = [Fault(hold_after=1_000_000)]
    manager.http.post(FETCH)
    until(
        lambda: ((manager.status()["engine"]["fetch"] or {}).get("bytes_done") or 0) > 900_000, "the bytes are reported"
    )
    assert code(manager.http.delete(FILES)) == (409, "busy")
    manager.http.post(FETCH)
    assert manager.status()["engine"]["fetch"]["model"] == "far"
    assert manager.http.delete(FETCH).status_code == 200
    asked = manager.http.post("/api/generate", json={"prompt": "x", "model": "far"})
    assert code(asked) == (422, "model_missing"), "a job does not begin again what was stopped"
    hub.faults = [Fault(hold_after=0)]
    hub.release()
    until(lambda: not model(manager)["fetching"], "it is stopped")
    assert model(manager)["fetch_error"] is None and not model(manager)["installed"]
    hub.hold_again()
    manager.http.post(FETCH)
    job = manager.submit(model="far")
    until(lambda: (manager.job(job["job_id"])["progress"] or {}).get("phase") == "fetching", "the job waits")
    hub.release()
    assert manager.ended(job["job_id"])["status"] == "complete"


def test_a_licence_that_restricts_use_must_be_accepted(manager: Service, hub: LoopbackHub) -> None:
    hub.licence = "cc-by-nc-4.0"
    question = manager.http.get(FETCH).json()["licence_question"]
    assert "cc-by-nc-4.0 (owner/tiny) does not allow commercial use" in question
    for body in (None, {}, {"accept_licence": False}):
        refused = manager.http.post(FETCH, json=body)
        assert code(refused) == (422, "licence_not_accepted") and question in refused.json()["detail"]
    assert not model(manager)["fetching"]
    assert manager.http.post(FETCH, json={"accept_licence": True}).status_code == 202
    until(lambda: model(manager)["installed"], "it is fetched")


def test_a_model_in_use_is_not_removed(manager: Service) -> None:
    fetched(manager)
    with manager.at_work(model="far") as job:
        assert code(manager.http.delete(FILES)) == (409, "busy")
    assert manager.ended(job["job_id"])["status"] == "complete"


def test_the_command_line_removes_through_the_service(manager: Service) -> None:
    fetched(manager)
    manager.draw(model="far")
    environment = {"IMAGEGEN_HOME": str(manager.home), "IMAGEGEN_PORT": str(manager.port)}
    done = CliRunner(env=environment).invoke(command, ["remove", "far", "--yes"])
    assert done.exit_code == 0 and "MB freed" in done.stdout
    assert manager.status()["engine"]["state"] == "cold" and not model(manager)["installed"]


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("GET", "/api/models/none/fetch", None, (422, "unknown_model")),
        ("DELETE", "/api/models/none/fetch", None, (422, "unknown_model")),
        ("DELETE", "/api/models/none/files", None, (422, "unknown_model")),
        ("POST", "/api/models/tiny/fetch", None, (422, "not_supported_by_model")),
        ("POST", FETCH, {"accept_licence": "yes"}, (422, "invalid_request")),
        ("POST", FETCH, {"force": True}, (422, "invalid_request")),
        ("PUT", FETCH, None, (405, "method_not_allowed")),
    ],
)
def test_bad_requests(manager: Service, method: str, path: str, body: Any, expected: tuple[int, str]) -> None:
    assert code(manager.http.request(method, path, json=body)) == expected


def test_a_hub_in_trouble_is_told_at_once_and_a_lost_file_later(manager: Service, hub: LoopbackHub) -> None:
    hub.listing_faults = [Fault(status=503)]
    assert code(manager.http.get(FETCH)) == (503, "fetch_failed")
    hub.faults = [Fault(flip=True)]
    manager.http.post(FETCH)
    until(lambda: model(manager)["fetch_error"] is not None, "the failure is reported")
    assert "came with wrong bytes" in model(manager)["fetch_error"]

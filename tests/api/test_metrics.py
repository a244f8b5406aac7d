"""Metrics: what Prometheus reads from the real service, with Prometheus itself."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from served import Require, Service, free_port, until

from imagegen.engines.base import DrawTimes
from imagegen.schemas import EngineState, Status
from imagegen.telemetry.metrics import Metrics, Snapshot


def samples(text: str) -> dict[str, float]:
    """`name{label="value"}`: value."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{k}="{v}"' for k, v in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def read(service: Service) -> dict[str, float]:
    answer = service.http.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    return samples(answer.text)


def test_a_drawn_job_is_counted_and_measured(service: Service) -> None:
    service.draw()  # the model is loaded
    until(service.is_unused, "what other tests have begun is over")
    before = read(service)
    service.draw(n=2, steps=3)
    with service.at_work() as cancelled:
        service.http.delete(f"/api/jobs/{cancelled['job_id']}")
        after = read(service)

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0.0)

    assert grown('imagegen_jobs_ended_total{status="complete"}') == 1
    assert grown('imagegen_jobs_ended_total{status="cancelled"}') == 1
    assert grown('imagegen_jobs_ended_total{status="failed"}') == 0
    for what in ("draw", "encode", "step"):
        assert grown(f'imagegen_{what}_seconds_count{{model="tiny"}}') == 2, what
        assert grown(f'imagegen_{what}_seconds_sum{{model="tiny"}}') > 0, what
    loads = after['imagegen_load_seconds_count{model="tiny"}']
    assert 1 <= loads <= after["imagegen_cold_starts_total"], "a load that another test broke off was not measured"
    assert grown("imagegen_stored_bytes") > 0
    assert grown("imagegen_kept_images") == 0
    assert after["imagegen_queue_max_jobs"] == 100
    assert sum(value for name, value in after.items() if name.startswith("imagegen_engine_state")) == 1


def test_whatever_is_asked_for_makes_no_new_series(service: Service) -> None:
    before = read(service)
    for number in range(50):
        service.http.get(f"/api/jobs/{number:032x}", headers={"user-agent": f"agent {number}"})
        service.http.get(f"/nowhere/{number}?x={number}")
    assert read(service).keys() == before.keys()
    assert len(before) < 250


def test_reading_wakes_nothing_and_an_unload_has_its_reason(serve) -> None:
    service = serve(idle_timeout="0")
    cold = read(service)
    assert cold['imagegen_engine_state{state="cold"}'] == 1
    assert read(service)["imagegen_cold_starts_total"] == 0
    service.draw()
    until(lambda: read(service)['imagegen_engine_state{state="cold"}'] == 1, "the engine is unloaded, watched or not")
    assert read(service)['imagegen_unloads_total{reason="idle"}'] == 1
    assert service.status()["engine"]["state"] == "cold"


def test_idle_time_counts_while_loaded_and_unused() -> None:
    now = 100.0
    metrics = Metrics(clock=lambda: now)

    def idle_s() -> float:
        return samples(metrics.page(Snapshot(3, 1, 9, EngineState.COLD, 77, 5)).decode())[
            "imagegen_engine_idle_seconds_total"
        ]

    for state, at, expected in (
        (EngineState.LOADING, 100, 0),
        (EngineState.READY, 110, 0),
        (EngineState.READY, 115, 5),
        (EngineState.DRAWING, 120, 10),
        (EngineState.READY, 150, 10),
        (EngineState.UNLOADING, 157, 17),
        (EngineState.COLD, 999, 17),
    ):
        now = at
        metrics.engine_entered(state)
        assert idle_s() == expected


def test_what_the_engine_did_not_tell_is_not_counted() -> None:
    metrics = Metrics()
    metrics.drew("tiny", DrawTimes(None, None, None, None, total_s=2.0, longest_gap_s=1.0))
    metrics.unloaded("struck by lightning")
    metrics.job_ended(Status.FAILED)
    found = samples(metrics.page(Snapshot(3, 1, 9, EngineState.FAILED, 77, 5)).decode())
    assert found['imagegen_draw_seconds_sum{model="tiny"}'] == 2.0
    assert 'imagegen_step_seconds_count{model="tiny"}' not in found
    assert found['imagegen_unloads_total{reason="failure"}'] == 1
    assert found['imagegen_queue_jobs{status="queued"}'] == 3
    assert found['imagegen_engine_state{state="failed"}'] == 1


# ---- Prometheus itself --------------------------------------------------------------------------


def test_promtool_finds_nothing_to_complain_about(service: Service, require: Require) -> None:
    promtool = shutil.which("promtool")
    require("promtool is not installed (Debian: prometheus)", promtool is not None)
    service.draw()
    page = service.http.get("/metrics").text
    checked = subprocess.run(
        [str(promtool), "check", "metrics"], input=page, capture_output=True, text=True, timeout=60
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


@pytest.fixture
def prometheus(service: Service, require: Require, tmp_path: Path) -> Iterator[httpx.Client]:
    """Prometheus, scraping the service every second; its API."""
    binary = shutil.which("prometheus")
    require("prometheus is not installed (Debian: prometheus)", binary is not None)
    port = free_port()
    config = tmp_path / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s}\n"
        f"scrape_configs: [{{job_name: imagegen, static_configs: [{{targets: ['127.0.0.1:{service.port}']}}]}}]\n"
    )
    command = [str(binary), f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'tsdb'}"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        yield client
    process.kill()
    process.wait(10)


def test_prometheus_scrapes_the_service(service: Service, prometheus: httpx.Client) -> None:
    service.draw()
    drawn = read(service)['imagegen_jobs_ended_total{status="complete"}']

    def value(query: str) -> float | None:
        try:
            answer = prometheus.get("/api/v1/query", params={"query": query}).json()
        except (httpx.TransportError, ValueError):
            return None
        result = answer.get("data", {}).get("result", [])
        return float(result[0]["value"][1]) if result else None

    until(lambda: value('up{job="imagegen"}') == 1.0, "the scrape succeeds", every=0.2)
    until(lambda: (value('imagegen_jobs_ended_total{status="complete"}') or 0) >= drawn, "the job is seen", every=0.2)
    assert value("count(imagegen_engine_state == 1)") == 1.0

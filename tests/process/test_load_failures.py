"""A model that cannot be loaded: told with the engine's own words, tried again in time, at once when mended."""

from __future__ import annotations

import shutil
from pathlib import Path

from engines import Engine, second_engine_long
from served import Service, until


def own_model(service: Service, drawer: Engine) -> Path:
    """The drawer's model as files of this test's own, so that they can be damaged."""
    folder = service.home / "models" / drawer.model
    shared = folder.resolve()
    folder.unlink()
    shutil.copytree(shared, folder)
    return folder


@second_engine_long
def test_jobs_fail_with_the_engines_words_and_a_mended_model_loads_at_once(serve_drawer, drawer: Engine) -> None:
    service = serve_drawer()
    model = own_model(service, drawer)
    (weights,) = model.glob(drawer.weights)
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    first = service.submit()
    behind = service.submit()
    failed = service.ended(first["job_id"])
    assert failed["error"]["code"] == "load_failed"
    assert str(model) not in failed["error"]["detail"], "no path of the host in what a caller sees"
    assert service.ended(behind["job_id"])["error"] == failed["error"]
    engine = service.status()["engine"]
    assert (engine["state"], engine["error"], engine["pid"]) == ("failed", failed["error"], None)

    waits = service.submit()
    until(lambda: service.job(waits["job_id"])["status"] == "queued", "a new job waits for the next try")
    weights.write_bytes(whole)
    until(
        lambda: service.job(waits["job_id"])["status"] != "queued", "sooner than the 30 s of the next try", timeout=25
    )
    assert service.ended(waits["job_id"])["status"] == "complete"
    assert service.status()["engine"]["error"] is None


def test_an_engine_that_is_not_there_is_told_with_what_to_do(serve, tmp_path: Path) -> None:
    missing = tmp_path / "no-such-sd-server"
    service = serve(sd_server=missing)
    failed = service.ended(service.submit()["job_id"])
    assert failed["error"]["code"] == "load_failed"
    assert "IMAGEGEN_SD_SERVER" in failed["error"]["detail"]


def test_a_model_that_is_not_there_is_refused_with_files_and_what_to_do(service: Service) -> None:
    request = {"prompt": "a red circle", "model": "flux2-klein-4b", "width": 512, "height": 512}
    refused = service.http.post("/api/generate", json=request)
    assert (refused.status_code, refused.json()["code"]) == (422, "model_missing")
    for told in ("flux-2-klein-4b-Q4_0.gguf", "flux2-klein-4b", "imagegen models fetch flux2-klein-4b"):
        assert told in refused.json()["detail"]
    assert service.draw()["status"] == "complete", "other models go on"


def test_a_model_that_does_not_load_holds_up_nobody_else(serve, home: Path) -> None:
    (home / "models" / "broken.toml").write_text('base = "tiny"\n')
    (home / "models" / "broken").mkdir()
    (home / "models" / "broken" / "dit.gguf").write_bytes(b"no weights")  # found before the base's own
    service = serve()
    failed = service.ended(service.submit(model="broken")["job_id"])
    assert failed["error"]["code"] == "load_failed"
    held = service.submit(model="broken")
    behind = service.submit()
    assert service.ended(behind["job_id"], timeout=20)["status"] == "complete"
    assert service.job(held["job_id"])["status"] == "queued"
    assert service.http.delete(f"/api/jobs/{held['job_id']}").json()["status"] == "cancelled"

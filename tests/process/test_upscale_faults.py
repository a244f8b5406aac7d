"""Upscales that meet trouble: a kill, a cancel, a stop, too little memory, damaged weights, an expired source."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import psutil
from PIL import Image
from served import Service, until

from imagegen.engines.sdcpp.upscaler import MODE

TINY = "upscaler-tiny"


def png(width: int = 16, height: int = 16) -> bytes:
    held = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(held, "PNG")
    return held.getvalue()


def upscale(service: Service, data: bytes | str, **fields: Any) -> dict[str, Any]:
    """Submit an upscale of a file or a stored picture."""
    fields = {"factor": "2", "model": TINY} | fields
    if isinstance(data, str):
        answer = service.http.post("/api/upscale", json=fields | {"image": data, "factor": int(fields["factor"])})
    else:
        answer = service.http.post("/api/upscale", data=fields, files={"image": ("a.png", data, "image/png")})
    assert answer.status_code == 202, answer.text
    return answer.json()


def mode_process(service: Service) -> psutil.Process | None:
    for process in service.processes():
        try:
            if process.name() == "sd-server" and MODE in process.cmdline():
                return process
        except psutil.NoSuchProcess:
            continue
    return None


def running(service: Service) -> psutil.Process:
    """The upscaler's process, suspended as soon as it runs."""
    found: list[psutil.Process] = []

    def seen() -> bool:
        process = mode_process(service)
        if process is not None:
            process.suspend()
            found.append(process)
        return process is not None

    until(seen, "an upscale runs", every=0.01)
    return found[0]


def test_an_upscale_runs_beside_the_model_and_again_if_killed(serve) -> None:
    service = serve(idle_timeout="never")
    drawn = service.draw()
    pid = service.engine_pid
    job = upscale(service, png(120, 64))
    running(service).kill()
    ended = service.ended(job["job_id"])
    assert (ended["status"], ended["attempts"]) == ("complete", 2)

    job = upscale(service, png(120, 64))
    suspended = running(service)
    assert service.job(job["job_id"])["progress"]["phase"] == "upscaling"
    assert service.http.delete(f"/api/jobs/{job['job_id']}").json()["status"] == "cancelled"
    until(lambda: mode_process(service) is None, "its process has ended")
    assert not suspended.is_running() or suspended.status() == psutil.STATUS_ZOMBIE
    assert service.draw("what comes after", seed=2)["status"] == "complete"
    assert service.engine_pid == pid is not None, "the model stayed loaded"

    network = service.home / "models" / TINY / "upscaler.safetensors"
    network.write_bytes(network.read_bytes()[:-100])
    failed = service.ended(upscale(service, drawn["images"][0]["id"])["job_id"])
    assert (failed["status"], failed["error"]["code"]) == ("failed", "load_failed")
    assert "is cut off" in failed["error"]["detail"]
    assert service.engine_pid == pid, "a damaged network does not end the model"


def test_no_model_is_loaded_and_a_stopped_service_goes_on(serve) -> None:
    service = serve(shutdown_grace_s=1)
    job = upscale(service, png(120, 64))
    running(service)
    assert (service.status()["engine"]["state"], service.engine_pid) == ("cold", None)
    service.terminate()
    service.wait()
    service.restart()
    ended = service.ended(job["job_id"])
    assert (ended["status"], ended["attempts"], ended["images"][0]["width"]) == ("complete", 1, 240)
    assert service.status()["engine"]["state"] == "cold"


def test_a_picture_that_expires_while_it_waits_is_kept_for_its_upscale(serve) -> None:
    service = serve(image_ttl=8)
    first = upscale(service, png(120, 64))
    held = running(service)
    image = service.http.post("/api/images", files={"image": ("a.png", png(), "image/png")}).json()
    waiting = upscale(service, image["id"], model="lanczos")
    expires_at = time.time() + 8
    until(lambda: time.time() > expires_at, "the source expires")
    held.resume()
    assert service.ended(first["job_id"])["status"] == "complete"
    assert service.ended(waiting["job_id"])["status"] == "complete"
    until(lambda: service.http.get(f"/images/{image['id']}.png").status_code == 410, "the source is swept")
    late = service.http.post("/api/upscale", json={"image": image["id"]})
    assert (late.status_code, late.json()["code"]) == (410, "expired")


def test_short_memory_takes_smaller_tiles_and_then_the_models(serve, sd_server: Path, tmp_path: Path) -> None:
    limit = tmp_path / "limit"
    short = tmp_path / "sd-server"
    short.write_text(
        f'#!/bin/sh\ncase "$1" in {MODE}) test -z "$2" || ulimit -v "$(cat {limit})";; esac\nexec {sd_server} "$@"\n'
    )
    short.chmod(0o755)
    service = serve(sd_server=short, idle_timeout="never")
    service.draw()
    pid = service.engine_pid
    limit.write_text("310000")
    job = service.ended(upscale(service, png(96, 48))["job_id"])
    assert (job["status"], service.engine_pid) == ("complete", pid), job
    assert "no memory for tiles of 96 px" in service.tail(200)
    limit.write_text("100000")
    job = service.ended(upscale(service, png(96, 48))["job_id"])
    assert (job["status"], job["error"]["code"]) == ("failed", "out_of_vram")
    assert service.engine_pid is None, "its memory was needed"
    assert service.draw()["status"] == "complete"

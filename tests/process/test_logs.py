"""What the log says at INFO, and what it must never say."""

from __future__ import annotations

from served import Service

SECRET = "xylophone-in-the-moonlight"


def test_info_has_a_line_for_each_state_and_no_prompt_picture_or_path(serve) -> None:
    service: Service = serve(idle_timeout="0")
    job = service.draw(SECRET)
    service.png(job)
    service.http.post("/api/generate", content=SECRET, headers={"content-type": "application/json"})
    service.http.post("/api/generate", json={"prompt": SECRET, "width": 9999})
    service.until_state("cold")
    log = service.log.read_text()
    for state in ("queued", "running", "complete"):
        assert f"job {job['job_id']} {state}" in log
    for state in ("loading", "drawing", "unloading", "cold"):
        assert f"engine {state}" in log
    assert "seconds=" in log
    for forbidden in (SECRET, job["images"][0]["id"], str(service.home), "GET /", "POST /"):
        assert forbidden not in log, f"{forbidden} is in the log"


def test_debug_adds_the_engines_lines_but_no_prompt(serve) -> None:
    service: Service = serve(log_level="DEBUG")
    service.draw(SECRET)
    log = service.log.read_text()
    assert "generate_image completed" in log
    assert SECRET not in log

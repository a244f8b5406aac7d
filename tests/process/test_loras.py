"""LoRAs as a caller sees them: a model's own, and a request's together with it, also after a kill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from loras import add_entry, pair, put, safetensors


def test_a_job_says_what_became_of_its_models_lora(serve: Any, home: Path) -> None:
    models = home / "models"
    add_entry(models, "partly", safetensors(pair() | pair("some_other_model.to_q")))
    add_entry(models, "foreign", safetensors(pair("some_other_model.to_q")))
    add_entry(models, "misshapen", safetensors(pair(inner=100)))
    service = serve()
    partly = service.ended(service.submit(model="partly", n=2)["job_id"])
    assert partly["status"] == "complete"
    assert [one["code"] for one in partly["warnings"]].count("lora_in_doubt") == 1
    for name in ("foreign", "misshapen"):
        job = service.ended(service.submit(model=name)["job_id"])
        assert (job["status"], job["error"]["code"], job["images"]) == ("failed", "draw_failed", [])
        assert "some.safetensors" in job["error"]["detail"] and str(home) not in job["error"]["detail"]
        assert job["attempts"] == 1, "it would end in the same way again"
    assert service.draw()["status"] == "complete", "the model without a LoRA goes on"


def test_a_requests_lora_works_with_the_models_own_and_after_a_kill(serve: Any, home: Path) -> None:
    add_entry(home / "models", "own", safetensors(pair()))
    put(home, "more", safetensors(pair("model.diffusion_model.double_blocks.0.img_attn.proj", outer=128)))
    more = {"loras": [{"name": "more", "strength": 0.5}]}
    service = serve(idle_timeout="never")
    pictures = [service.unsigned(service.draw(model="own", **with_one)) for with_one in ({}, more, {})]
    assert pictures[0] == pictures[2]
    plain, both = pictures[:2]
    assert both not in (plain, service.unsigned(service.draw(**more)))
    with service.at_work():
        waiting = service.submit(model="own", **more)["job_id"]
        service.kill()
    service.start()
    job = service.ended(waiting)
    assert job["params"]["loras"] == [{"name": "more", "strength": 0.5}]
    assert job["status"] == "complete" and service.unsigned(job) == both

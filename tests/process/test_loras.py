"""A model with a LoRA, as a caller sees it: what does not apply fails its job, what applies in part is a warning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from loras import add_entry, pair, safetensors


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

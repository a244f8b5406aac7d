"""What the engine is told of a job: the texts of the policy that was in force when it was submitted."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest

from imagegen.images.store import ImageStore
from imagegen.models.catalog import Catalog
from imagegen.prompts.guardrails import PROMPT_JOIN, Guardrails
from imagegen.schemas import EngineTexts, Job, Kind, Params, Policy, Status
from imagegen.settings import Settings
from imagegen.worker.processor import ImageProcessor

STORED = EngineTexts(prompt="a red circle, plainly", negative="clowns")
COMPOSED_ANEW = EngineTexts(prompt=f"a red circle{PROMPT_JOIN}Kein Text.", negative="spiders")


@pytest.mark.parametrize(
    ("stored", "told"),
    [(STORED, STORED), (None, COMPOSED_ANEW)],
    ids=["stored with the job", "accepted by a version that stored none"],
)
def test_another_policy_file_does_not_change_a_job_that_was_accepted(
    tmp_path: Path, stored: EngineTexts | None, told: EngineTexts
) -> None:
    job = Job(
        id="a" * 32, seq=1, revision=1, kind=Kind.GENERATE, status=Status.RUNNING, model="tiny", prompt="a red circle",
        params=Params(width=64, height=64, steps=2, cfg_scale=2.0, sampler="euler", seed=1),
        policy=Policy(negative="applied"), engine_texts=stored, created_at=1.0,
    )  # fmt: skip
    no_store: ImageStore = SimpleNamespace()  # type: ignore[assignment]  # the job has no reference
    settings = Settings(home=tmp_path)
    other_policy = Guardrails("spiders", "Kein Text.", "other.toml")
    processor = ImageProcessor(no_store, other_policy, Catalog.load(settings), settings)
    request = asyncio.run(processor.preprocess(job, seed=1))
    assert EngineTexts(prompt=request.prompt, negative=request.negative) == told

"""The training of the built-in model: its torch networks draw what the engine draws, and it goes on where it was.

Seconds of training show that every step runs on what the step before left, not that anything is learned: what the
shipped weights can is measured by benchmarks/sketch.py.
"""

from __future__ import annotations

import importlib.util
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from served import ROOT, Require, Service

from imagegen.guardrails import TEXT_FAITHFULNESS_DIRECTIVE
from imagegen.models import synthetic
from imagegen.models.catalog import Catalog

PACKED = ROOT / "imagegen" / "models" / "sketch.npz"
PROMPTS = ("a red circle", "four pink hearts", "a clipart icon of a coffee cup")


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory, require: Require) -> Path:
    require("torch, which training/requirements.txt names", importlib.util.find_spec("torch") is not None)
    return tmp_path_factory.mktemp("training")


@pytest.fixture(scope="module")
def source(run_folder: Path, sd_server: Path) -> str:
    """The engine's `src`, whose tokenizer the training reads."""
    return trained(run_folder, "engine_source.py", run_folder).strip()


def trained(cwd: Path, script: str, *arguments: object, source: str = "") -> str:
    """What a script of the training printed."""
    command = [sys.executable, str(ROOT / "training" / script), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SDCPP_SRC": source}
    ran = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def checkpoints(run_folder: Path, source: str) -> tuple[Path, Path]:
    """Autoencoder and transformer out of what the package ships."""
    both = run_folder / "autoencoder.pt", run_folder / "transformer.pt"
    trained(run_folder, "shipped.py", PACKED, *both, source=source)
    return both


def test_checkpoints_of_the_shipped_weights_pack_into_the_same_bytes(
    checkpoints: tuple[Path, Path], run_folder: Path, source: str
) -> None:
    again = run_folder / "again.npz"
    trained(run_folder, "export.py", *checkpoints, again, source=source)
    assert again.read_bytes() == PACKED.read_bytes()


def test_the_networks_in_torch_draw_what_the_engine_draws(
    checkpoints: tuple[Path, Path], run_folder: Path, source: str, service: Service
) -> None:
    fields = {"model": "sketch", "width": None, "height": None, "steps": None, "seed": 5}
    jobs = [service.draw(prompt, **fields) for prompt in PROMPTS]
    engines = [np.asarray(Image.open(io.BytesIO(service.png(job))).convert("RGB"), float) for job in jobs]
    defaults = Catalog.packaged().get("sketch").defaults
    sheet = run_folder / "twin.png"
    side = engines[0].shape[0]
    how = ("--seed", 5, "--steps", defaults.steps.value, "--cfg", defaults.cfg_scale.value, "--size", side)
    told = [f"{prompt}\n\n{TEXT_FAITHFULNESS_DIRECTIVE}" for prompt in PROMPTS]
    trained(run_folder, "sampler.py", *checkpoints, sheet, *told, *how, source=source)
    twins = np.asarray(Image.open(sheet).convert("RGB"), float)
    for i, picture in enumerate(engines):
        left = 4 + i * (side + 8)
        off = np.abs(picture - twins[:side, left : left + side]).mean()
        assert off < 1, f"{PROMPTS[i]}: {off:.2f} of 255; the engine computes in eight and sixteen bits"


def test_training_goes_on_and_what_it_left_can_be_packed(
    checkpoints: tuple[Path, Path], run_folder: Path, source: str
) -> None:
    autoencoder, transformer = run_folder / "more-autoencoder.pt", run_folder / "more-transformer.pt"
    told = trained(
        run_folder, "train_autoencoder.py", autoencoder, "--resume", checkpoints[0], "--minutes", 0.03, source=source
    )
    assert float(re.search(r"([\d.]+) dB", told)[1]) > 20, "it began from what was learned"  # type: ignore[index]
    parts = ("--part", "draw:64:250:8:1", "--part", "edit:64:250:8:1", "--minutes", 0.1)

    def transformer_from(checkpoint: Path) -> int:
        told = trained(
            run_folder, "train_transformer.py", autoencoder, transformer, *parts, "--resume", checkpoint, source=source
        )
        return int(re.search(r"(\d+) pictures seen", told)[1])  # type: ignore[index]

    seen = transformer_from(checkpoints[1])
    assert transformer_from(transformer) > seen > 0, "a second run counts from where the first one ended"
    told = trained(run_folder, "export.py", autoencoder, transformer, run_folder / "more.npz", source=source)
    things = synthetic.things(Catalog.packaged().get("sketch"))
    assert things is not None and f"{len(things)} things" in told

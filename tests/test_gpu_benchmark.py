"""`benchmarks/gpu.py`: its dry run goes through every stage on the real engine, and goes on where it stopped."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from math import prod
from pathlib import Path

import pytest

from imagegen.engine.cards import find_cards
from imagegen.models import synthetic_qwen

ROOT = Path(__file__).parents[1]
MORE_TO_DO = 75


def run(work: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "benchmarks/gpu.py", "--work", str(work), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=540, check=False)


@pytest.mark.slow
def test_the_dry_run_does_every_stage_and_can_be_interrupted(
    tmp_path: Path, sd_server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "IMAGEGEN_SD_SERVER", str(sd_server))
    page = (ROOT / "docs/gpu.md").read_text()
    first = run(tmp_path, "--dry-run", "--minutes", "0.05")
    assert first.returncode == MORE_TO_DO, first.stdout + first.stderr
    half = json.loads((tmp_path / "state.json").read_text())["done"]
    assert "engine" in half
    second = run(tmp_path, "--dry-run")
    assert second.returncode == 0, second.stdout + second.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    assert half.items() <= results["done"].items(), "what was done was not done again"
    for row in results["rows"]:
        assert row["same_64"] and row["same_96"], "both ways draw the same pictures"
        assert row["after_bytes"] == row["before_bytes"] == 0 < row["loaded_bytes"] <= row["peak_64_bytes"]
    assert results["done"]["no-fa/direct/cold"]["cached_bytes"] < results["done"]["no-fa/direct/warm"]["cached_bytes"]
    made = (tmp_path / "gpu.md").read_text()
    assert "say nothing of a GPU" in made and len(re.findall(r"^\| flash attention \|", made, re.MULTILINE)) == 3
    assert (ROOT / "docs/gpu.md").read_text() == page, "a dry run leaves the page as it is"


def test_results_of_another_machine_are_not_mixed_in(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text(json.dumps({"about": {"card": "another"}, "done": {}}))
    refused = run(tmp_path, "--dry-run")
    assert refused.returncode == 1
    assert "was begun with another" in refused.stderr and "card" in refused.stderr


@pytest.mark.skipif(bool(find_cards().found), reason="there is a GPU to measure")
def test_without_a_gpu_nothing_is_measured(tmp_path: Path) -> None:
    refused = run(tmp_path / "work")
    assert refused.returncode == 1
    assert "There is nothing to measure" in refused.stderr and "--dry-run" in refused.stderr
    assert not (tmp_path / "work").exists()


def test_the_full_size_is_the_real_models() -> None:
    """20.4 thousand million parameters, and 7.07 of the text model without its head and its vision tower."""
    files = synthetic_qwen.full_size_files()
    parameters = {name: sum(prod(tensor.shape) for tensor in gguf.tensors) for name, gguf in files.items()}
    assert parameters["dit.gguf"] == pytest.approx(20.43e9, rel=0.001)
    assert parameters["llm.gguf"] == pytest.approx(7.07e9, rel=0.001)

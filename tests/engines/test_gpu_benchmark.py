"""`benchmarks/gpu.py`: its dry run goes through every stage on the real engine, and goes on where it stopped."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from math import prod
from pathlib import Path
from typing import Any

import pytest

from imagegen.engine_build.cards import find_cards
from imagegen.models.synthetic import qwen

ROOT = Path(__file__).parents[2]
MORE_TO_DO = 75
DAY_S = 86_400.0


def run(work: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "benchmarks/gpu.py", "--work", str(work), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=540, check=False)


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
    both_ways, *engine_alone = results["rows"]
    assert both_ways["same_64"] and both_ways["same_96"], "both ways draw the same pictures"
    assert both_ways["after_bytes"] == both_ways["before_bytes"] == 0
    assert 0 < both_ways["loaded_bytes"] <= both_ways["peak_64_bytes"]
    assert all(row["direct_64_s"] > 0 and row["direct_96_s"] > 0 for row in engine_alone)
    assert results["done"]["fa/direct/cold"]["cached_bytes"] < results["done"]["fa/direct/warm"]["cached_bytes"]
    made = (tmp_path / "gpu.md").read_text()
    assert results["took_s"].keys() >= {"start of the service", "cold load", "warm load", "first picture", "picture 64"}
    assert "still to come" not in made
    assert "say nothing of a GPU" in made and len(re.findall(r"^\| flash attention \|", made, re.MULTILINE)) == 3
    assert len(re.findall(r"^\| no flash attention \|", made, re.MULTILINE)) == 2, "its loads are not measured"
    assert (ROOT / "docs/gpu.md").read_text() == page, "a dry run leaves the page as it is"


@pytest.fixture(scope="module")
def benchmark() -> Any:
    """The module itself; its folder is not a package."""
    spec = importlib.util.spec_from_file_location("gpu_benchmark", ROOT / "benchmarks/gpu.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    path = sys.path.copy()
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path[:] = path
    return module


def call_of(benchmark: Any, work: Path, *, took_s: dict[str, float], done: list[str], has_result: bool = True) -> Any:
    """A call of a day, just begun."""
    state = benchmark.State(work / "state.json", {"about": {}, "done": {name: {} for name in done}, "took_s": took_s})
    return benchmark.Call(state, DAY_S, time.monotonic(), has_result)


def test_a_call_begins_nothing_that_would_end_too_late(benchmark: Any, tmp_path: Path) -> None:
    def call(has_result: bool = True) -> Any:
        return call_of(benchmark, tmp_path, took_s={"a": DAY_S / 2, "b": DAY_S / 10}, done=[], has_result=has_result)

    call().demand("a", "b")
    call().demand("b", "another")
    for kinds in (("a", "a"), ("a", "another"), ("another", "another", "another")):
        with pytest.raises(benchmark.OutOfTime):
            call().demand(*kinds)
        call(has_result=False).demand(*kinds)  # else one that takes longer than a call would never be done


@pytest.mark.parametrize(
    ("way", "done", "slow"),
    [
        ("service", [], "start of the service"),
        ("service", ["cold", "warm"], "warm load"),
        ("direct", ["cold", "warm"], "first picture"),
        ("direct", ["cold", "warm", "64/1"], "picture 96"),
    ],
)
def test_a_call_that_goes_on_counts_what_it_must_do_again(
    benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, done: list[str], slow: str
) -> None:
    """A start, a load and a first picture come before the next measurement, and were begun at any time."""
    kinds = ("start of the service", "cold load", "warm load", "first picture", "picture 64", "picture 96")
    took_s = dict.fromkeys(kinds, 1.0) | {slow: DAY_S}
    call = call_of(benchmark, tmp_path, took_s=took_s, done=[f"fa/{way}/{name}" for name in done])
    bench = benchmark.Bench(tmp_path, True, None, tmp_path / "gpu.md", call)
    monkeypatch.setattr(benchmark.Bench, "_started", lambda *_: pytest.fail("it was started"))
    with pytest.raises(benchmark.OutOfTime):
        bench._measure(benchmark.SETUPS[0], way)


def test_the_page_says_nothing_of_missing_figures_where_no_run_replaces_it(benchmark: Any) -> None:
    before, rest = (ROOT / "docs/gpu.md").read_text().split(benchmark.gpu_page.BEGIN)
    _, after = rest.split(benchmark.gpu_page.END)
    assert "still to come" not in before + after


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
    files = qwen.full_size_files()
    parameters = {name: sum(prod(tensor.shape) for tensor in gguf.tensors) for name, gguf in files.items()}
    assert parameters["dit.gguf"] == pytest.approx(20.43e9, rel=0.001)
    assert parameters["llm.gguf"] == pytest.approx(7.07e9, rel=0.001)

"""The simulator counts as its page says, and the policy is worth having on the streams shipped with it."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
HEADER = "stream,arrival_s,service_s\n"


@pytest.fixture(scope="module")
def simulator() -> Iterator[ModuleType]:
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module("idle_policy")
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def lives(simulator: ModuleType) -> list[list[float]]:
    return simulator.idle_gaps(simulator.streams(1))


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / "idle_policy.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def policies(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, float]]:
    assert done.returncode == 0, done.stderr
    return {result["policy"]: result for result in json.loads(done.stdout)["policies"]}


def test_counts_gaps_queues_and_cold_starts_as_its_page_says(tmp_path: Path) -> None:
    file = tmp_path / "streams.csv"
    rows = [
        "a,1000,10",  # served to 1010
        "a,1005,20",  # queues, served to 1030: no gap
        "a,1080,5",  # gap of 50, served to 1085
        "a,1285,5",  # gap of 200: beyond both time-outs
        "b,0,1",  # another life: a first cold start, and the idle time after it does not count
    ]
    file.write_text(HEADER + "\n".join(rows) + "\n")
    found = policies(run("--csv", str(file), "--beta", "100", "--json"))
    assert list(found) == ["adaptive", "fixed 120", "tau = beta", "randomised"]
    opt = 100 + 50 + 100 + 100
    for name, idle_s in (("fixed 120", 50 + 120), ("tau = beta", 50 + 100)):
        expected = {"policy": name, "cold": 3, "idle_s": idle_s, "J": idle_s + 300}
        assert found[name] == {**expected, "J_over_opt": round((idle_s + 300) / opt, 4)}
    for result in found.values():
        assert result["J"] == pytest.approx(result["idle_s"] + 100 * result["cold"], abs=0.01)
        assert 1 <= result["J_over_opt"] <= 3


def test_the_order_of_rows_and_the_clocks_start_do_not_matter(tmp_path: Path) -> None:
    rows = ["a,0,10", "a,90,5", "b,7,3", "a,500,5", "b,70,1", "b,700,1"]
    moved = ["b,1700000700,1", "a,1700000500,5", "b,1700000070,1", "b,1700000007,3", "a,1700000090,5"]
    one, other = tmp_path / "one.csv", tmp_path / "other.csv"
    one.write_text(HEADER + "\n".join(rows))
    other.write_text("\ufeff" + HEADER + "\n".join([*moved, "a,1700000000,10"]))
    first, second = (run("--csv", str(file), "--beta", "60", "--json") for file in (one, other))
    for name, result in policies(first).items():
        if name != "randomised":  # draws for the streams in the order they come
            assert policies(second)[name] == pytest.approx(result)


def test_every_stream_is_a_life_of_its_own(simulator: ModuleType) -> None:
    gaps = [30.0, 4000.0, 20.0, 35.0, 90.0] * 10
    once, twice = (simulator.compare([gaps] * lives, 60.0)[0] for lives in (1, 2))
    assert twice["cold"] == 2 * once["cold"]
    assert twice["J_over_opt"] == once["J_over_opt"]


@pytest.mark.parametrize(("beta_s", "at_most"), [(60.0, 0.75), (120.0, 0.98), (600.0, 0.90)])
def test_saves_against_two_minutes_on_streams_like_a_public_services(
    simulator: ModuleType, lives: list[list[float]], beta_s: float, at_most: float
) -> None:
    found = {result["policy"]: result for result in simulator.compare(lives, beta_s)}
    assert found["adaptive"]["J"] <= at_most * found["fixed 120"]["J"]
    assert found["adaptive"]["J"] <= found["tau = beta"]["J"]
    assert found["randomised"]["J_over_opt"] == pytest.approx(1.58, abs=0.05)  # e / (e - 1)


def test_saves_on_other_users_too(simulator: ModuleType) -> None:
    others = simulator.idle_gaps(simulator.streams(2))
    adaptive, fixed, *_ = simulator.compare(others, 120.0)
    assert adaptive["J"] <= 0.98 * fixed["J"]


def test_the_generated_gaps_are_those_of_a_public_service(simulator: ModuleType, lives: list[list[float]]) -> None:
    gaps = sorted(gap for life in lives for gap in life)
    quantiles = [gaps[int(len(gaps) * share)] for share in (0.5, 0.75, 0.9)]
    assert quantiles == pytest.approx([54, 154, 944], rel=0.01)
    assert len(lives) == 109
    assert simulator.streams(1) == simulator.streams(1) != simulator.streams(2)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no column stream, arrival_s, service_s"),
        ("stream,arrival_s\na,1\n", "has no column service_s"),
        (HEADER, "has no requests"),
        (HEADER + "a,1,2\na,soon,2\n", "line 3: arrival_s and service_s must be numbers, not 'soon' and '2'"),
        (HEADER + "a,1\n", "line 2: arrival_s and service_s must be numbers"),
        (HEADER + "a,nan,2\n", "line 2: arrival_s must be a finite number"),
        (HEADER + "a,1,-2\n", "line 2: service_s must be finite and 0 or more"),
        ("\x00\x01" + HEADER, "has no column stream"),
    ],
)
def test_an_unusable_file_is_refused_in_a_sentence(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "streams.csv"
    file.write_text(text)
    done = run("--csv", str(file), "--beta", "60", "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_is_not_there_or_not_text_is_refused_in_a_sentence(tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"\x89PNG\xff\xfe\x00")
    for path in (tmp_path / "none.csv", picture, tmp_path):
        done = run("--csv", str(path), "--beta", "60")
        assert done.returncode == 2
        assert "cannot be read" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("beta", ["0", "-5", "nan", "inf", "x"])
def test_a_beta_that_is_no_time_is_refused(beta: str) -> None:
    done = run("--beta", beta)
    assert done.returncode == 2
    assert "--beta" in done.stderr


def test_the_generators_file_is_the_simulators_input(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "streams.py"), "--seed", "5", "--users", "3"]
    file = tmp_path / "streams.csv"
    file.write_text(subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout)
    assert set(policies(run("--csv", str(file), "--beta", "60", "--json"))) >= {"adaptive", "fixed 120"}


@pytest.mark.parametrize(
    "kind", ["exponential", "Pareto", "bursts and quiet", "periodic", "changing pace", "alternating"]
)
def test_is_not_worse_than_a_fixed_time_out_on_other_kinds_of_streams(simulator: ModuleType, kind: str) -> None:
    table = importlib.import_module("idle_table")
    lives = table.family_lives(table.FAMILIES[kind], seed=1)[:15]
    adaptive, fixed, beta, _ = (result["J"] for result in simulator.compare(lives, 120.0))
    assert adaptive <= 1.02 * min(fixed, beta)


def test_the_best_constant_is_the_cheapest_of_all(simulator: ModuleType) -> None:
    table = importlib.import_module("idle_table")
    lives = [[10.0, 20.0, 500.0], [30.0, 31.0]]
    # tau = 31: the gaps up to 31 are held, one cold start, and the first of each life; OPT pays 60 for the last
    assert table.best_constant(lives, 60.0) == pytest.approx((120 + 91 + 31 + 60) / (120 + 91 + 60))

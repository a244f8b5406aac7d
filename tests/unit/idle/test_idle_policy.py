"""IdlePolicy: what it promises against any stream of requests, and what it says.

J and OPT are added up here from the decisions alone, not taken from the policy's own ledger.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf, nextafter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagegen.idle.gaps import MAX_GAPS, cheapest_timeout_s, likely_gaps
from imagegen.idle.policy import (
    WARMED_LEAST_S,
    Decision,
    Evidence,
    IdlePolicy,
    Ledger,
    after_first_start,
    after_gap,
    decide,
)

QUICK = settings(deadline=None, max_examples=150)

Adversary = Callable[[float, float], float]
"""Chooses the next gap in seconds, knowing tau and beta."""

ADVERSARIES: dict[str, Adversary] = {
    "just after": lambda tau, beta: nextafter(tau, inf) if tau > 0 else beta * 1e-9,
    "just in time": lambda tau, beta: tau if tau > 0 else beta * 1e-9,
    "soon": lambda tau, beta: beta / 100,
    "late": lambda tau, beta: beta * 1000,
    "half": lambda tau, beta: max(tau / 2, beta / 1000),
    "beta": lambda tau, beta: beta,
}


@dataclass
class Life:
    """A service's life under a policy, with the costs added up from its decisions."""

    policy: IdlePolicy
    evidence: Evidence
    j_s: float = 0.0
    opt_s: float = 0.0

    def __post_init__(self) -> None:
        self.evidence = after_first_start(self.evidence)
        self.j_s = self.opt_s = self.evidence.beta_s

    def timeout_s(self) -> float:
        unload_at = self.policy.decide(0.0, self.evidence).unload_at
        assert unload_at is not None
        return unload_at

    def live(self, gap_s: float) -> None:
        beta_s, tau_s = self.evidence.beta_s, self.timeout_s()
        cold = gap_s > tau_s
        self.j_s += tau_s + beta_s if cold else gap_s
        self.opt_s += min(gap_s, beta_s)
        self.evidence = after_gap(self.evidence, gap_s, cold, min(gap_s, tau_s))


def life(policy: IdlePolicy, beta_s: float, **known: object) -> Life:
    evidence = Evidence(ended_at=0.0, knob=1.0, cold_start_s=beta_s, max_s=inf)
    return Life(policy, replace(evidence, **known))  # type: ignore[arg-type]


betas = st.floats(0.01, 10_000)
gaps_in_betas = st.floats(1e-6, 1e4)
moves = st.lists(st.one_of(gaps_in_betas, st.sampled_from(sorted(ADVERSARIES))), min_size=1, max_size=60)


@dataclass(frozen=True)
class Signals:
    """What else may be known in a gap."""

    present_share: float | None  # present until this many betas after the end of service
    warmed_unused: bool
    gpu_wanted: bool
    drafts_share: float | None  # without the drafts since, it would have gone so many betas after their end
    cold_start_factor: float  # the next cold start is expected to take this much of the usual

    def tell(self, evidence: Evidence, usual_s: float) -> Evidence:
        present = None if self.present_share is None else self.present_share * usual_s
        return replace(
            evidence,
            present_until=present,
            warmed_unused=self.warmed_unused,
            gpu_wanted=self.gpu_wanted,
            kept_until=None if self.drafts_share is None else self.drafts_share * usual_s,
            cold_start_s=usual_s * self.cold_start_factor,
        )


signals = st.builds(
    Signals,
    st.none() | st.floats(0, 5),
    st.booleans(),
    st.booleans(),
    st.none() | st.floats(-1, 5),
    st.sampled_from([1.0, 0.1, 0.5, 3.0]),
)


def next_gap(move: float | str, tau_s: float, beta_s: float) -> float:
    return ADVERSARIES[move](tau_s, beta_s) if isinstance(move, str) else move * beta_s


@QUICK
@given(betas, moves)
def test_costs_at_most_three_times_the_optimum_after_every_gap(beta_s: float, moves: list[float | str]) -> None:
    lived = life(IdlePolicy(), beta_s)
    for move in moves:
        tau_s = lived.timeout_s()
        assert 0 <= tau_s <= 2 * beta_s
        if tau_s < beta_s / 2:
            assert 3 * lived.opt_s - lived.j_s >= (beta_s - 2 * tau_s) * (1 - 1e-9)
        lived.live(next_gap(move, tau_s, beta_s))
        assert lived.j_s <= 3 * lived.opt_s * (1 + 1e-12)


@QUICK
@given(betas, st.lists(st.tuples(gaps_in_betas | st.sampled_from(sorted(ADVERSARIES)), signals), max_size=60))
def test_no_signal_and_no_changing_load_time_breaks_the_bound(
    usual_s: float, moves: list[tuple[float | str, Signals]]
) -> None:
    lived = life(IdlePolicy(), usual_s)
    for move, told in moves:
        lived.evidence = told.tell(lived.evidence, usual_s)
        tau_s, beta_s = lived.timeout_s(), lived.evidence.beta_s
        assert 0 <= tau_s <= 2 * beta_s
        lived.live(next_gap(move, tau_s, beta_s))
        assert lived.j_s <= 3 * lived.opt_s * (1 + 1e-12)


@QUICK
@given(betas, moves)
def test_costs_at_most_twice_the_optimum_without_learning(beta_s: float, moves: list[float | str]) -> None:
    lived = life(IdlePolicy(learning=False), beta_s)
    for move in moves:
        assert lived.timeout_s() == beta_s
        lived.live(next_gap(move, beta_s, beta_s))
        assert lived.j_s <= 2 * lived.opt_s * (1 + 1e-12)


@QUICK
@given(betas, moves)
def test_the_ledger_says_what_the_life_has_cost(beta_s: float, moves: list[float | str]) -> None:
    lived = life(IdlePolicy(), beta_s)
    for move in moves:
        lived.live(next_gap(move, lived.timeout_s(), beta_s))
    assert lived.evidence.ledger.j_s == pytest.approx(lived.j_s)
    assert lived.evidence.ledger.opt_s == pytest.approx(lived.opt_s)


@pytest.mark.parametrize("adversary", ADVERSARIES)
def test_holds_against_one_that_waits_for_the_choice(adversary: str) -> None:
    lived = life(IdlePolicy(), 60.0)
    for _ in range(500):
        lived.live(ADVERSARIES[adversary](lived.timeout_s(), 60.0))
        assert lived.j_s <= 3 * lived.opt_s * (1 + 1e-12)


def test_an_adversary_can_reach_the_bound_so_the_account_is_needed() -> None:
    lived = life(IdlePolicy(), 60.0)
    for _ in range(500):
        lived.live(ADVERSARIES["just after"](lived.timeout_s(), 60.0))
    assert 2.9 < lived.j_s / lived.opt_s <= 3


def test_without_the_account_learning_would_break_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ledger, "shortest_s", lambda ledger, beta_s: 0.0)
    lived = life(IdlePolicy(), 60.0)
    for _ in range(500):
        lived.live(ADVERSARIES["just after"](lived.timeout_s(), 60.0))
    assert lived.j_s > 3 * lived.opt_s


weighted = st.lists(st.tuples(st.floats(0.01, 1e4), st.floats(0.01, 10)), min_size=1, max_size=40)


@QUICK
@given(weighted, st.floats(0.1, 1000), st.floats(0, 0.5), st.sampled_from([0.5, 2.0]))
def test_no_other_timeout_is_cheaper(
    points: list[tuple[float, float]], beta_s: float, shortest_share: float, longest_share: float
) -> None:
    shortest_s, longest_s = shortest_share * beta_s, longest_share * beta_s
    points = sorted(points)

    def cost(tau_s: float) -> float:
        return sum(weight * (gap if gap <= tau_s else tau_s + beta_s) for gap, weight in points)

    chosen_s = cheapest_timeout_s(points, beta_s, shortest_s, longest_s)
    assert shortest_s <= chosen_s <= longest_s
    others = [gap for gap, _ in points if shortest_s <= gap <= longest_s]
    others += [shortest_s + (longest_s - shortest_s) * i / 50 for i in range(51)]
    assert cost(chosen_s) <= min(map(cost, others)) * (1 + 1e-9)


def lived_through(gaps: list[float], cold_start_s: float, knob: float = 3.0) -> Evidence:
    """The evidence after these gaps, all survived warm or cold as the policy decided."""
    evidence = after_first_start(Evidence(ended_at=0.0, knob=knob, cold_start_s=cold_start_s))
    for gap in gaps:
        evidence = after_gap(evidence, gap, gap > IdlePolicy().timeout_s(evidence))
    return evidence


def test_learns_to_wait_for_those_who_come_back_soon_and_not_for_others() -> None:
    often = lived_through([40.0] * 100, cold_start_s=20)
    assert 40 <= IdlePolicy().timeout_s(often) <= 80
    seldom = lived_through([3000.0] * 100, cold_start_s=20)
    assert IdlePolicy().timeout_s(seldom) == 0


def test_the_worked_example_of_the_docs_is_what_the_policy_does() -> None:
    """docs/idle.md, "The knob, with an example": 20 times the same five gaps, loads of 40 s."""
    page = (Path(__file__).parents[3] / "docs/idle.md").read_text()
    rows = re.findall(r"^\| (\d+) \| (\d+) s \| (\d+) s \| (\d+) s \|$", page, re.MULTILINE)
    assert [int(row[0]) for row in rows] == [1, 3, 10, 30]
    for row in rows:
        knob, *says = map(int, row)
        lives = [lived_through(gaps * 20, 40.0, knob) for gaps in ([30, 55, 40, 61, 50], [30, 55, 40, 61, 1500])]
        assert says == [40 * knob, *(round(IdlePolicy().timeout_s(lived)) for lived in lives)]


def test_a_pause_is_expected_after_a_pause() -> None:
    gaps = ([30.0] * 10 + [5000.0] * 10) * 5
    in_a_burst, in_a_pause = [*gaps, *[30.0] * 4], [*gaps, *[30.0] * 10, *[5000.0] * 4]
    burst_s = IdlePolicy().timeout_s(lived_through(in_a_burst, cold_start_s=20))
    pause_s = IdlePolicy().timeout_s(lived_through(in_a_pause, cold_start_s=20))
    assert pause_s < 30 <= burst_s


def test_a_longer_load_is_waited_for_longer() -> None:
    waits = [IdlePolicy().timeout_s(after_first_start(Evidence(0.0, cold_start_s=s))) for s in (1, 10, 40, 200)]
    assert waits == sorted(waits)
    assert waits[0] < waits[-1]


def test_a_service_that_has_not_measured_a_load_assumes_a_minute() -> None:
    unknown = Evidence(ended_at=0.0)
    assert unknown.beta_s == replace(unknown, cold_start_s=60.0).beta_s
    assert decide(0.0, unknown).reason == (
        "unloads in 5 min: no load was measured here yet (60 s is assumed), "
        "and with few requests so far, the gaps of a public service count too"
    )


def test_the_operators_own_words_go_first() -> None:
    evidence = Evidence(ended_at=100.0, cold_start_s=40.0, gpu_wanted=True, present_until=1e6)
    assert decide(100.0, replace(evidence, mode="never")) == Decision(
        None, "stays loaded: IMAGEGEN_IDLE_TIMEOUT is never"
    )
    assert decide(100.0, replace(evidence, mode="0")) == Decision(100.0, "unloads now: IMAGEGEN_IDLE_TIMEOUT is 0")
    assert decide(110.0, replace(evidence, mode="90")) == Decision(
        190.0, "unloads in 80 s: IMAGEGEN_IDLE_TIMEOUT is 90"
    )
    assert decide(100.0, replace(evidence, min_s=1000.0)) == Decision(
        1100.0, "unloads in 17 min: IMAGEGEN_IDLE_MIN_S is 1000"
    )
    assert decide(100.0, replace(evidence, max_s=7.0)) == Decision(107.0, "unloads in 7 s: IMAGEGEN_IDLE_MAX_S is 7")


def test_presence_keeps_it_loaded_for_at_most_one_beta_more() -> None:
    evidence = after_first_start(Evidence(ended_at=0.0, knob=3.0, cold_start_s=40.0))
    alone = IdlePolicy().timeout_s(evidence)
    here = replace(evidence, present_until=1e6)
    assert alone + 1 < IdlePolicy().timeout_s(here) <= alone + evidence.beta_s
    assert decide(0.0, here).reason.endswith("a user is present")
    assert IdlePolicy().timeout_s(replace(evidence, present_until=alone + 5)) == alone + 5
    gone = replace(evidence, present_until=alone - 5)
    assert decide(0.0, gone) == decide(0.0, evidence)


def test_presence_goes_no_further_than_two_betas() -> None:
    evidence = lived_through([25.0, 25.0, 125.0] * 60, cold_start_s=40)
    assert IdlePolicy().timeout_s(evidence) > evidence.beta_s
    assert IdlePolicy().timeout_s(replace(evidence, present_until=1e6)) == 2 * evidence.beta_s


@pytest.mark.parametrize(
    ("signal", "says"),
    [
        ("gpu_wanted", "another program wants the GPU's memory"),
        ("warmed_unused", "it was warmed up but has not been used"),
    ],
)
def test_is_unloaded_sooner_when_memory_is_wanted_or_a_warm_up_unused(signal: str, says: str) -> None:
    evidence = lived_through([90.0] * 20, cold_start_s=40)
    assert IdlePolicy().timeout_s(evidence) > evidence.beta_s / 2
    told = replace(evidence, **{signal: True})  # type: ignore[arg-type]
    assert IdlePolicy().timeout_s(told) <= evidence.beta_s / 2
    assert decide(0.0, told).reason.endswith(says)


def test_an_unused_warm_up_stays_no_longer_than_a_used_model() -> None:
    """The model of docs/idle.md, "The knob, with an example": at 10 a used one stays 106 s of a beta of 400 s."""
    example = lived_through([30.0, 55.0, 40.0, 61.0, 1500.0] * 20, cold_start_s=40, knob=10)
    used_s = IdlePolicy().timeout_s(example)
    assert WARMED_LEAST_S < used_s < example.beta_s / 2
    assert IdlePolicy().timeout_s(replace(example, warmed_unused=True)) == used_s
    often = lived_through([150.0] * 50, cold_start_s=20, knob=10)
    assert IdlePolicy().timeout_s(often) > often.beta_s / 2 > WARMED_LEAST_S
    assert IdlePolicy().timeout_s(replace(often, warmed_unused=True)) == often.beta_s / 2
    seldom = lived_through([9000.0] * 50, cold_start_s=40, knob=10)
    assert IdlePolicy().timeout_s(seldom) == 0
    assert IdlePolicy().timeout_s(replace(seldom, warmed_unused=True)) == WARMED_LEAST_S
    quick = replace(seldom, cold_start_s=4.0)
    assert IdlePolicy().timeout_s(replace(quick, warmed_unused=True)) == quick.beta_s / 2


def test_a_wanted_gpu_is_not_kept_for_somebody_who_is_only_here() -> None:
    evidence = replace(lived_through([90.0] * 20, cold_start_s=40), present_until=1e6, gpu_wanted=True)
    assert IdlePolicy().timeout_s(evidence) <= evidence.beta_s / 2


def test_drafts_keep_the_model_only_while_somebody_is_here() -> None:
    used = lived_through([90.0] * 20, cold_start_s=40)
    used = replace(used, ledger=Ledger(1.0, 1e6))  # the account demands nothing
    alone_s = IdlePolicy().timeout_s(used)
    drafted = replace(used, kept_until=used.ended_at + 5)
    assert alone_s > 5
    for evidence, timeout_s in (
        (drafted, 5),
        (replace(drafted, kept_until=used.ended_at - 60), 0),
        (replace(drafted, present_until=1e6), IdlePolicy().timeout_s(replace(used, present_until=1e6))),
        (replace(drafted, present_until=used.ended_at + 7), 7),
        (replace(drafted, kept_until=1e6), alone_s),
        (replace(drafted, mode="300"), 5),
        (replace(drafted, mode="300", present_until=1e6), 300),
    ):
        assert IdlePolicy().timeout_s(evidence) == timeout_s, evidence
    assert "only drafts" in decide(0.0, drafted).reason
    assert decide(0.0, replace(drafted, mode="never")).unload_at is None


def test_the_time_counts_from_the_end_of_the_service() -> None:
    evidence = Evidence(ended_at=5000.0, cold_start_s=40.0)
    early, late = decide(5000.0, evidence), decide(5050.0, evidence)
    assert early.unload_at == late.unload_at
    assert decide(1e9, evidence).reason.startswith("unloads now: ")


def test_an_end_that_was_nobodys_time_out_is_booked_to_both_sides() -> None:
    evidence = after_first_start(Evidence(ended_at=0.0, knob=1.0, cold_start_s=100.0))
    by_hand = after_gap(evidence, 500.0, True, 3.0, by_policy=False)
    assert by_hand.ledger == Ledger(100 + 3 + 100, 100 + 3 + 100)
    by_itself = after_gap(evidence, 500.0, True, 3.0)
    assert by_itself.ledger == Ledger(100 + 3 + 100, 100 + 100)
    assert by_hand.gaps == by_itself.gaps == (500.0,)


def test_a_request_that_was_queued_teaches_nothing_of_when_people_come() -> None:
    evidence = after_first_start(Evidence(ended_at=0.0, cold_start_s=40.0))
    for gap in (0.0, 0.003, 50.0, 0.002):
        evidence = after_gap(evidence, gap, was_cold=False)
    assert evidence.gaps == (50.0,)
    assert evidence.ledger.j_s - evidence.beta_s == pytest.approx(50.005)


def test_what_was_learned_outlives_a_restart_and_the_ledger_does_not() -> None:
    evidence = lived_through([float(i) for i in range(1, 300)], cold_start_s=20)
    assert len(evidence.gaps) == MAX_GAPS
    kept = json.loads(json.dumps(evidence.dump()))
    again = Evidence(ended_at=0.0).restore(kept)
    assert again.gaps == evidence.gaps
    assert again.ledger == Ledger()


@pytest.mark.parametrize("kept", [None, [], {"gaps": "x"}, {"gaps": [None, -1, 0, "3", True, inf]}])
def test_a_damaged_note_teaches_nothing(kept: object) -> None:
    assert Evidence(ended_at=0.0).restore(kept).gaps == ()


def test_likely_gaps_are_the_public_ones_until_there_are_own_ones() -> None:
    def median(gaps: tuple[float, ...]) -> float:
        points = likely_gaps(gaps)
        half = sum(weight for _, weight in points) / 2
        for seconds, weight in points:
            half -= weight
            if half <= 0:
                return seconds
        raise AssertionError

    assert median(()) == 50
    assert median((3.0,) * 100) == 3

"""What the service's life teaches its idle policy: sequences of what happens lead to the right gaps and ledger."""

from __future__ import annotations

import json
from dataclasses import replace
from math import inf, nan
from typing import Any

import pytest

from imagegen.idle.policy import Ledger
from imagegen.idle.tracker import TYPING_S, IdleTracker

FILES = 10**9
KNOB, LOAD_S = 10.0, 4.0
BETA = KNOB * LOAD_S


def memory(mode: str = "auto") -> IdleTracker:
    return IdleTracker(mode, min_s=0.0, max_s=3600.0, knob=KNOB, available_bytes=lambda: 2 * FILES)


def serve(idle: IdleTracker, at: float, *, cold: bool, seconds: float = 1.0, warming: bool = False) -> float:
    """A request (or a warm-up) that arrives `at` and is served `seconds` long; a load takes LOAD_S, from the cache."""
    idle.arrived(at, cold=cold, warming=warming)
    if cold:
        idle.loaded("m", LOAD_S, 0, FILES)
    idle.served(at + seconds, warmed=warming)
    return at + seconds


def gaps(idle: IdleTracker) -> list[float]:
    return idle.dump()["evidence"]["gaps"]


def test_the_first_request_costs_a_cold_start_on_both_sides_and_is_no_gap() -> None:
    idle = memory()
    serve(idle, 100.0, cold=True)
    assert idle._evidence.ledger == Ledger(BETA, BETA)
    assert (gaps(idle), idle.cold_start_s, idle.beta_s) == ([], LOAD_S, BETA)


def test_a_gap_on_a_loaded_engine_costs_its_length() -> None:
    idle = memory()
    end = serve(idle, 0.0, cold=True)
    serve(idle, end + 30.0, cold=False)
    assert gaps(idle) == [30.0]
    assert idle._evidence.ledger == Ledger(BETA + 30.0, BETA + 30.0)


def test_a_gap_that_the_policy_ended_costs_what_it_held_and_a_cold_start() -> None:
    idle = memory()
    end = serve(idle, 0.0, cold=True)
    idle.unloaded(end + 25.0, by_policy=True)
    serve(idle, end + 500.0, cold=True)
    assert gaps(idle) == [500.0]
    assert idle._evidence.ledger == Ledger(BETA + 25.0 + BETA, BETA + BETA)


@pytest.mark.parametrize("why", ["by hand", "it died"])
def test_a_cold_start_that_no_time_out_avoids_is_booked_to_both(why: str) -> None:
    idle = memory()
    end = serve(idle, 0.0, cold=True)
    idle.unloaded(end + 25.0, by_policy=False)
    serve(idle, end + 500.0, cold=True)
    assert idle._evidence.ledger == Ledger(BETA + 25.0 + BETA, BETA + 25.0 + BETA), why


@pytest.mark.parametrize("gap_s", [0.5, 0.5 * BETA])
def test_a_change_of_model_is_nobodys_time_out_and_the_account_holds(gap_s: float) -> None:
    idle = memory()
    end = serve(idle, 0.0, cold=True)
    for changes in range(1, 13):
        idle.arrived(end + gap_s, cold=True)
        idle.unloaded(end + gap_s, by_policy=False)  # the other model goes
        idle.loaded("other" if changes % 2 else "m", LOAD_S, 0, FILES)
        idle.served(end := end + gap_s + 1.0)
        ledger = idle._evidence.ledger
        assert ledger.j_s == pytest.approx(BETA + changes * (gap_s + BETA))
        assert ledger.j_s <= 3 * ledger.opt_s
    assert "unloaded too soon" not in idle.decide(end).reason, "no time-out of its own ended it"


def test_a_warm_up_of_another_model_is_no_time_out_either() -> None:
    idle = memory()
    end = serve(idle, 0.0, cold=True)
    idle.arrived(end + 5.0, cold=True, warming=True)
    assert idle._evidence.ledger == Ledger(BETA + 5.0 + BETA, BETA + 5.0 + BETA)


def test_after_a_load_that_failed_nothing_was_held() -> None:
    idle = memory()
    end = serve(idle, 0.0, cold=True)
    idle.unloaded(end + 10.0, by_policy=True)
    idle.arrived(end + 100.0, cold=True)  # its load fails: nothing is loaded, nothing is held
    idle.served(end + 101.0, loaded=False)
    before = idle._evidence.ledger
    serve(idle, end + 401.0, cold=True)
    after = idle._evidence.ledger
    assert after.j_s - before.j_s == pytest.approx(BETA)
    assert after.opt_s - before.opt_s == pytest.approx(BETA)


def test_a_warm_up_is_booked_and_the_gap_between_people_is_learned_whole() -> None:
    idle = memory()
    end = serve(idle, 0.0, cold=True)
    idle.unloaded(end + 25.0, by_policy=True)
    warm = serve(idle, end + 300.0, cold=True, warming=True)
    assert gaps(idle) == []
    assert idle._evidence.ledger == Ledger(2 * BETA + 25.0, 2 * BETA)
    serve(idle, warm + 20.0, cold=False)
    assert gaps(idle) == [pytest.approx(321.0)]
    assert idle._evidence.ledger.j_s == pytest.approx(2 * BETA + 45.0)


def test_a_warm_up_that_nobody_uses_goes_sooner_and_teaches_nothing() -> None:
    used, unused = memory(), memory()
    for idle in (used, unused):
        end = 0.0
        for _ in range(30):
            end = serve(idle, end + 35.0, cold=end == 0.0)
    until_used = used.decide(end).unload_at
    warm = serve(unused, end + 1.0, cold=True, warming=True)
    until_unused = unused.decide(warm).unload_at
    assert until_used is not None and until_unused is not None
    assert until_used - end > BETA / 2 >= until_unused - warm
    assert "warmed up" in unused.decide(warm).reason
    assert gaps(used) == gaps(unused)


def test_a_warm_up_of_a_quick_model_is_kept_half_a_beta() -> None:
    idle = memory()
    end = 0.0
    for _ in range(30):
        end = serve(idle, end + 5000.0, cold=True)
        idle.unloaded(end, by_policy=True)
    usual = idle.decide(end).unload_at
    warm = serve(idle, end + 5000.0, cold=True, warming=True)
    assert usual is not None and usual - end < BETA / 2
    assert idle.decide(warm).unload_at == warm + BETA / 2, "who types needs some time"


def test_somebody_present_keeps_it_at_most_one_beta_longer_and_once() -> None:
    idle = memory()
    end = serve(idle, 0.0, cold=True)
    alone = idle.decide(end).unload_at
    idle.present = True
    kept = idle.decide(end).unload_at
    assert alone is not None and kept is not None
    assert alone < kept <= alone + BETA
    assert "a user is present" in idle.decide(end).reason
    assert idle.decide(kept - 1.0).unload_at == kept, "who stays on does not renew it"
    idle.present = False
    assert idle.decide(end + 1.0).unload_at == alone


def test_a_prompt_that_is_typed_is_bounded_presence() -> None:
    idle = memory()
    end = serve(idle, 0.0, cold=True)
    alone = idle.decide(end).unload_at
    assert alone is not None
    for at in range(0, 1000, 30):  # whoever goes on typing does not renew it
        idle.typing(end + at)
        kept = idle.decide(end + at).unload_at
        assert kept is not None and alone < kept <= min(alone + BETA, end + 2 * BETA)
    idle = memory()
    idle.typing(alone - TYPING_S - 0.1)
    assert serve(idle, 0.0, cold=True) == end
    assert idle.decide(end).unload_at == alone, "what was typed long ago keeps nothing"


def test_who_wants_the_gpu_goes_before_who_is_present() -> None:
    idle = memory()
    end = 0.0
    for _ in range(30):
        end = serve(idle, end + 35.0, cold=end == 0.0)
    idle.present = idle.gpu_wanted = True
    decision = idle.decide(end)
    assert decision.unload_at is not None and decision.unload_at - end <= BETA / 2
    assert "another program" in decision.reason


@pytest.mark.parametrize("then", ["it is unloaded", "a job comes at once"])
def test_a_clock_that_ran_on_in_sleep_costs_no_more_than_the_time_out(then: str) -> None:
    night = 8 * 3600.0
    idle = memory()
    end = 0.0
    for _ in range(5):
        end = serve(idle, end + night, cold=end == 0.0 or then == "it is unloaded")
        planned = idle.decide(end + 1.0).unload_at
        assert planned is not None and planned < end + 2 * BETA
        if then == "it is unloaded":
            idle.unloaded(end + night, by_policy=True)
    ledger = idle._evidence.ledger
    assert ledger.j_s <= 3 * ledger.opt_s
    assert ledger.j_s <= 5 * 3 * BETA
    assert "unloaded too soon" not in idle.decide(end).reason


def test_loads_from_disk_and_cache_are_told_apart_by_what_was_read() -> None:
    idle = memory()
    idle.loaded("m", 40.0, FILES, FILES)
    assert idle.cold_start_s == 40.0, "the only kind there is"
    idle.loaded("m", 5.0, 0, FILES)
    assert idle.cold_start_s == 5.0, "the files fit into memory"
    idle.loaded("m", 7.0, FILES // 3, FILES)
    assert idle.cold_start_s == 6.0, "a third of the files is no load from disk"
    idle.loaded("m", 44.0, 3 * FILES, 3 * FILES)
    assert idle.cold_start_s == 42.0, "files that do not fit into memory come from the disk"


def test_whether_the_files_still_fit_is_looked_at_when_a_gap_begins() -> None:
    free = [2 * FILES]
    idle = IdleTracker("auto", min_s=0.0, max_s=3600.0, knob=KNOB, available_bytes=lambda: free[0])
    idle.arrived(0.0, cold=True)
    idle.loaded("m", 40.0, FILES, FILES)
    idle.loaded("m", 5.0, 0, FILES)
    idle.served(1.0)
    assert idle.beta_s == KNOB * 5.0
    free[0] = FILES // 2  # somebody else uses the memory
    assert idle.beta_s == KNOB * 5.0, "a gap keeps its price"
    idle.arrived(31.0, cold=False)
    idle.served(32.0)
    assert idle.beta_s == KNOB * 40.0
    assert "loading takes 40 s here" in idle.decide(32.0).reason
    assert idle._evidence.ledger.j_s == pytest.approx(KNOB * 40.0 + 30.0)


def test_a_clock_that_runs_backwards_makes_no_negative_gap() -> None:
    idle = memory()
    end = serve(idle, 1000.0, cold=True)
    serve(idle, end - 500.0, cold=False)
    assert gaps(idle) == []
    assert idle._evidence.ledger == Ledger(BETA, BETA)


def test_what_was_learned_survives_a_restart_and_the_ledger_does_not() -> None:
    idle = memory()
    end = serve(idle, 0.0, cold=True)
    serve(idle, end + 30.0, cold=False)
    again = memory()
    again.restore(json.loads(json.dumps(idle.dump())), "m", FILES)
    assert (gaps(again), again.cold_start_s) == ([30.0], LOAD_S)
    assert again._evidence == replace(idle._evidence, ended_at=0.0, ledger=Ledger())


@pytest.mark.parametrize(
    "kept",
    [
        {},
        {"evidence": None, "cold_starts": None},
        {"evidence": [1], "cold_starts": [2]},
        {"evidence": {"gaps": "no"}, "cold_starts": {"m": "no"}},
        {"evidence": {"gaps": [nan, -1, inf, "3", True, None]}, "cold_starts": {"m": {"from_cache_s": [nan, -4]}}},
        {"evidence": {"gaps": {"0": 3}}, "cold_starts": {"m": {"from_cache_s": {"0": 3}}}},
    ],
)
def test_damaged_notes_are_forgotten(kept: dict[str, Any]) -> None:
    idle = memory()
    idle.restore(kept, "m", FILES)
    assert (gaps(idle), idle.cold_start_s) == ([], None)
    end = serve(idle, 0.0, cold=True)
    assert idle.decide(end).unload_at is not None


def test_of_a_damaged_note_the_whole_parts_are_kept() -> None:
    idle = memory()
    idle.restore({"evidence": {"gaps": [5.0, "x", 7]}, "cold_starts": {"m": {"from_cache_s": [3.0, None]}}}, "m", FILES)
    assert (gaps(idle), idle.cold_start_s) == ([5.0, 7.0], 3.0)


def test_a_fixed_time_out_learns_all_the_same() -> None:
    idle = memory("120")
    end = serve(idle, 0.0, cold=True)
    idle.present = True
    decision = idle.decide(end)
    assert decision.unload_at == end + 120.0
    assert "IMAGEGEN_IDLE_TIMEOUT is 120" in decision.reason
    serve(idle, end + 30.0, cold=False)
    assert gaps(idle) == [30.0]


def draft(idle: IdleTracker, at: float, *, cold: bool = False) -> float:
    """A draft that takes a second."""
    idle.arrived(at, cold=cold, draft=True)
    if cold:
        idle.loaded("m", LOAD_S, 0, FILES)
    idle.served(at + 1.0, draft=True)
    return at + 1.0


def test_drafts_keep_the_model_no_longer_than_somebody_is_here() -> None:
    idle = memory("300")
    end = serve(idle, 0.0, cold=True)
    idle.present = True
    for _ in range(3):
        last = draft(idle, end + 100.0)
        assert idle.decide(last).unload_at == last + 300.0
    idle.present = False
    assert idle.decide(last).unload_at == end + 300.0, "as without the drafts"
    idle.used(last + 2.0)
    assert idle.decide(last + 2.0).unload_at == last + 300.0, "somebody has kept one"


def test_a_model_that_only_drafts_have_loaded_goes_with_its_reader() -> None:
    idle = memory("300")
    idle.present = True
    last = draft(idle, 50.0, cold=True)
    assert idle.decide(last).unload_at == last + 300.0
    idle.present = False
    assert idle.decide(last).unload_at == last


def test_nothing_is_learned_of_drafts_and_the_gap_is_that_of_the_requests() -> None:
    idle = memory()
    end = serve(idle, 0.0, cold=True)
    last = draft(idle, end + 20.0)
    assert gaps(idle) == []
    serve(idle, last + 9.0, cold=False)
    assert gaps(idle) == [30.0]

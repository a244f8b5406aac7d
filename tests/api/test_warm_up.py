"""Warming a model up: when it loads, what ends it, and what is refused.

Tests of `second_engine_long` run on the second engine too, in `make test-long`.
"""

from __future__ import annotations

from typing import Any

import pytest
from engines import Engine, first_engine, second_engine_long
from held_engine import Held
from served import Service, gone, until
from warm_ups import until_warmed


@second_engine_long
def test_warming_up_twice_loads_once_and_often_is_refused_with_when(life: Service, held: Held) -> None:
    before = held.starts
    answers = [life.http.post("/api/warm")]
    life.until_state("ready")
    for _ in range(20):
        answers.append(life.http.post("/api/warm"))
        if answers[-1].status_code == 429:
            break
    assert [answer.status_code for answer in answers[:2]] == [202, 202]
    assert answers[-1].json()["code"] == "rate_limited"
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert held.starts == before + 1


@second_engine_long
def test_a_warm_up_changes_over_to_another_model_but_not_before_a_job(
    life: Service, drawer: Engine, held: Held
) -> None:
    until_warmed(life, drawer.model)
    assert life.until_state("ready")["engine"]["model"] == drawer.model
    until_warmed(life, "twin")
    until(lambda: life.status()["engine"]["model"] == "twin", "it changes over")
    life.until_state("ready")
    held.hold()
    life.http.post("/api/unload")
    job = life.submit()
    life.until_state("loading")
    until_warmed(life, "twin")
    behind = life.submit()
    held.let_go()
    for one in (job, behind):
        assert life.ended(one["job_id"])["status"] == "complete"
    until(lambda: life.status()["engine"]["model"] == "twin", "the warm-up was not forgotten")
    life.until_state("ready")


@second_engine_long
def test_a_warm_up_ends_when_a_job_for_another_model_comes(life: Service, drawer: Engine, held: Held) -> None:
    held.hold()
    began = until_warmed(life, "twin").json()
    assert (began["engine"]["state"], began["engine"]["model"]) == ("loading", "twin")
    assert began["engine"]["load"]["fraction"] == 0
    until(lambda: life.engine_pid is not None, "there is a process")
    job = life.submit()
    until(lambda: life.job(job["job_id"])["status"] == "running", "the warm-up lets it go first")
    held.let_go()
    ended = life.ended(job["job_id"])
    assert (ended["status"], ended["model"], ended["attempts"]) == ("complete", drawer.model, 1)
    assert life.until_state("ready")["engine"]["model"] == drawer.model, "it was ended, and does not come back"


@first_engine
def test_a_warm_up_goes_on_for_a_job_for_its_own_model(life: Service, held: Held) -> None:
    before = held.starts
    held.hold()
    until_warmed(life, "twin")
    job = life.submit(model="twin")
    assert life.http.post("/api/unload").json()["code"] == "busy"
    held.let_go()
    assert life.ended(job["job_id"])["status"] == "complete"
    assert held.starts == before + 1


@second_engine_long
def test_a_warm_up_is_ended_by_an_unload(life: Service, held: Held) -> None:
    held.hold()
    until_warmed(life)
    until(lambda: life.engine_pid is not None, "there is a process")
    pid = life.engine_pid
    ended = life.http.post("/api/unload")
    assert (ended.status_code, ended.json()["engine"]["state"]) == (202, "cold")
    assert pid is not None and gone(pid)


@first_engine
@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"params": {"modle": "twin"}}, "'modle' is not a field"),
        ({"params": {"model": "twin", "when": "now"}}, "'when' is not a field"),
        ({"json": {"model": "twin"}}, "?model=NAME"),
    ],
    ids=["a misspelt name", "a second name", "a body"],
)
def test_what_a_warm_up_does_not_know_is_refused(life: Service, how: dict[str, Any], said: str) -> None:
    refused = life.http.post("/api/warm", **how)
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
    assert said in refused.json()["detail"]
    assert life.status()["engine"]["state"] == "cold"


@first_engine
def test_an_unknown_model_is_not_warmed_up(life: Service) -> None:
    refused = life.http.post("/api/warm", params={"model": "no-such-model"})
    assert (refused.status_code, refused.json()["code"]) == (422, "unknown_model")
    assert life.status()["engine"]["state"] == "cold"

"""Progress as words and as a number that only grows."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagegen_client.answers import JobState, Progress, parsed
from imagegen_client.progress import describe, percent
from mcp_front.progress import advance, poll_s
from mcp_front.texts import next_step_waiting


def job(status="running", **fields):
    return parsed(JobState, {"job_id": "a", "status": status, **fields}, "job")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"status": "queued", "position": 2, "eta_s": 31.4}, "waiting in the queue, 2 ahead of it, about 31 s left"),
        ({"status": "queued", "position": 0}, "waiting in the queue"),
        ({}, "starting"),
        ({"progress": {"phase": "loading", "fraction": 0.4}}, "loading the model 40 %"),
        (
            {"progress": {"phase": "sampling", "step": 7, "steps": 25}, "eta_s": 12},
            "drawing: step 7/25, about 12 s left",
        ),
        ({"progress": {"phase": "sampling", "step": 7, "steps": 25}, "eta_s": 0.2}, "drawing: step 7/25"),
        ({"progress": {"phase": "encoding", "step": 128, "steps": 1280}}, "writing the picture's tokens 128/1280"),
        ({"progress": {"phase": "encoding"}}, "reading the prompt"),
        ({"progress": {"phase": "waiting_gpu"}}, "waiting for GPU memory that another program holds"),
        ({"progress": {"phase": "decoding", "image": 2}, "params": {"n": 3}}, "picture 2 of 3: finishing the picture"),
        ({"progress": {"phase": "decoding", "fraction": 0.5}}, "finishing the picture 50 %"),
        ({"progress": {"phase": "something new"}}, "something new"),
        ({"status": "queued", "position": 0, "eta_s": 2100}, "waiting in the queue, about 35 min left"),
        (
            {
                "progress": {
                    "phase": "fetching",
                    "fraction": 0.1,
                    "detail": "a: 2 of 20 GB, 9 MB/s, about 33 min left",
                }
            },
            "downloading the model's files 10 % (a: 2 of 20 GB, 9 MB/s, about 33 min left)",
        ),
        ({"status": "complete"}, "complete"),
    ],
)
def test_words(fields, words):
    assert describe(job(**fields)) == words


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({}, 5),
        ({"eta_s": 12}, 5),
        ({"eta_s": 400}, 40),
        ({"eta_s": 90_000}, 300),
        ({"progress": {"phase": "fetching", "left_s": 2100}}, 210),
    ],
)
def test_the_advice_how_often_to_ask_follows_the_time_left(fields, seconds):
    assert poll_s(job(**fields)) == seconds
    assert f"every {seconds} s, not faster" in next_step_waiting("a", poll_s(job(**fields)))


progresses = st.builds(
    Progress,
    phase=st.sampled_from(["fetching", "waiting_gpu", "loading", "encoding", "sampling", "decoding", "saving", "new"]),
    step=st.none() | st.integers(0, 100),
    steps=st.none() | st.integers(0, 100),
    fraction=st.none() | st.floats(0, 1),
    image=st.integers(1, 4),
)


@given(st.lists(progresses | st.none(), max_size=30), st.integers(1, 4))
def test_the_number_grows_with_every_notification_and_ends_at_100(steps, pictures):
    last = 0.0
    for now in steps:
        following = advance(
            last, job(progress=now and dataclasses.asdict(now), params={"n": max(pictures, now.image if now else 1)})
        )
        assert last < following < 100
        assert len(f"{following}".partition(".")[2]) <= 2, "no 0.060000000000000005"
        last = following
    assert advance(last, job("complete")) == 100


def test_the_bar_goes_from_loading_to_saving():
    bar = [
        percent(job(progress={"phase": "loading", "fraction": 0.5})),
        percent(job(progress={"phase": "encoding", "fraction": 0.5})),
        percent(job(progress={"phase": "sampling", "step": 1, "steps": 25})),
        percent(job(progress={"phase": "sampling", "step": 24, "steps": 25})),
        percent(job(progress={"phase": "decoding"})),
        percent(job(progress={"phase": "saving"})),
        percent(job("complete")),
    ]
    assert bar == sorted(set(bar)) and bar[0] == 15 and bar[-1] == 100

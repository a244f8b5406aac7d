"""How long things take: medians, what is left of a job, the queue's forecast, and whether a cancel ends the engine."""

from __future__ import annotations

import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagegen.jobs.active import ActiveJob
from imagegen.jobs.durations import KEPT, Durations, Measurement, cancel_by_kill, timed_as
from imagegen.models.download.progress import Fetching
from imagegen.schemas import EngineState, Params, Phase, Progress
from imagegen.worker.eta import EtaEstimator

PX = 64 * 64
PARAMS = Params(width=64, height=64, steps=4, cfg_scale=1.0, sampler="euler", seed=1)


def measured(model: str = "tiny", **seconds: float) -> list[Measurement]:
    return [Measurement(model, what, 0 if what == "load" else PX, value) for what, value in seconds.items()]


KNOWN = Durations(measured(load=8.0, encode=1.0, step=2.0, decode=3.0))
WHOLE_S = 1.0 + 4 * 2.0 + 3.0


@pytest.mark.parametrize(("strength", "steps"), [(None, 4), (1.0, 4), (0.75, 3), (0.6, 3), (0.01, 1), (0.0, 1)])
def test_a_strength_leaves_out_its_share_of_the_steps(strength: float | None, steps: int) -> None:
    params = PARAMS.model_copy(update={"strength": strength})
    assert KNOWN.job("tiny", params) == 1.0 + steps * 2.0 + 3.0


def test_the_median_of_the_recent_ones_is_expected() -> None:
    durations = Durations()
    for seconds in (100.0, 1.0, 2.0, 3.0):
        durations.add(Measurement("tiny", "load", 0, seconds))
    assert durations.expect("tiny", "load") == 2.5
    for _ in range(KEPT):
        durations.add(Measurement("tiny", "load", 0, 7.0))
    assert durations.expect("tiny", "load") == 7.0, "what is old is forgotten"


@pytest.mark.parametrize(
    ("what", "pixels", "seconds"),
    [
        ("step", PX, 2.0),
        ("step", 4 * PX, 8.0),
        ("step", PX // 4, 0.5),
        ("decode", 2 * PX, 6.0),
        ("encode", 9 * PX, 1.0),
    ],
)
def test_another_size_is_scaled_by_its_pixels_where_pixels_matter(what: Any, pixels: int, seconds: float) -> None:
    assert KNOWN.expect("tiny", what, pixels) == seconds


def test_the_nearest_size_is_the_one_that_is_scaled() -> None:
    durations = Durations([Measurement("tiny", "step", 100, 1.0), Measurement("tiny", "step", 1000, 50.0)])
    assert durations.expect("tiny", "step", 200) == 2.0
    assert durations.expect("tiny", "step", 2000) == 100.0


@pytest.mark.parametrize(
    ("pixels", "seconds"), [(1000, 2.0), (3000, 4.0), (5000, 8.0), (2000, 3.0), (7000, 12.0), (0, 1.0)]
)
def test_tokens_of_another_size_lie_on_the_line_through_the_nearest_two(pixels: int, seconds: float) -> None:
    durations = Durations(
        Measurement("glm", "tokens", known, took) for known, took in ((1000, 2.0), (3000, 4.0), (5000, 8.0))
    )
    assert durations.expect("glm", "tokens", pixels) == pytest.approx(seconds)


def test_tokens_of_one_size_or_of_sizes_that_contradict_are_not_scaled() -> None:
    one = Durations([Measurement("glm", "tokens", PX, 2.0)])
    assert one.expect("glm", "tokens", 9 * PX) == 2.0
    noisy = Durations([Measurement("glm", "tokens", PX, 2.0), Measurement("glm", "tokens", 4 * PX, 1.5)])
    assert noisy.expect("glm", "tokens", 9 * PX) == 1.5


def test_tokens_are_the_encoding_of_a_picture_that_is_written() -> None:
    durations = Durations(measured(encode=1.0, tokens=5.0, step=2.0, decode=3.0))
    assert durations.picture("tiny", PARAMS) == 5.0 + 4 * 2.0 + 3.0
    halfway = Progress(phase=Phase.ENCODING, fraction=0.5)
    assert durations.remaining("tiny", PARAMS, halfway, 0.0) == 2.5 + 4 * 2.0 + 3.0


def test_the_slowest_is_of_the_size_and_scaled_up_only() -> None:
    durations = Durations([Measurement("tiny", "gap", 100, 1.0), Measurement("tiny", "gap", 100, 9.0)])
    assert [durations.slowest("tiny", "gap", pixels) for pixels in (100, 200, 50)] == [9.0, 18.0, 9.0]
    assert durations.slowest("other", "gap", 100) is None


def test_fast_pictures_are_expected_from_fast_ones_else_from_the_others() -> None:
    fast = PARAMS.model_copy(update={"speed": "fast"})
    durations = Durations(measured(encode=1.0, step=2.0, decode=3.0))
    assert durations.job("tiny", fast) == durations.job("tiny", PARAMS) == WHOLE_S
    durations.add(Measurement(timed_as("tiny", "fast"), "step", PX, 0.5))
    assert (durations.job("tiny", fast), durations.job("tiny", PARAMS)) == (1.0 + 4 * 0.5 + 3.0, WHOLE_S)
    halfway = Progress(phase=Phase.SAMPLING, step=2, steps=4)
    assert durations.remaining("tiny", fast, halfway, 0.0) == 2 * 0.5 + 3.0


def test_the_first_picture_of_a_model_is_expected_from_its_own_steps() -> None:
    halfway = Progress(phase=Phase.SAMPLING, step=1, steps=4, step_s=2.0)
    assert Durations().remaining("tiny", PARAMS, halfway, 0.5) == 3 * 2.0 - 0.5


def test_what_was_never_measured_is_unknown() -> None:
    empty, no_steps = Durations(), Durations(measured(load=8.0, encode=1.0, decode=3.0))
    for durations, model in ((empty, "tiny"), (no_steps, "tiny"), (KNOWN, "other")):
        assert durations.picture(model, PARAMS) is None
        assert durations.job(model, PARAMS) is None
        for phase in Phase:
            assert durations.remaining(model, PARAMS, Progress(phase=phase), 0.0) is None
    no_load = Durations(measured(encode=1.0, step=2.0, decode=3.0))
    assert no_load.remaining("tiny", PARAMS, Progress(phase=Phase.LOADING), 0.0) is None


@pytest.mark.parametrize(
    ("progress", "elapsed_s", "left_s"),
    [
        (None, 0.0, 2 * WHOLE_S),
        (Progress(phase=Phase.FETCHING), 0.0, None),
        (Progress(phase=Phase.WAITING_GPU), 0.0, None),
        (Progress(phase=Phase.LOADING), 0.0, 8.0 + 2 * WHOLE_S),
        (Progress(phase=Phase.LOADING, fraction=0.75), 1.0, 1.0 + 2 * WHOLE_S),
        (Progress(phase=Phase.LOADING, fraction=0.75), 99.0, 2 * WHOLE_S),
        (Progress(phase=Phase.ENCODING), 0.5, WHOLE_S - 0.5 + WHOLE_S),
        (Progress(phase=Phase.ENCODING, step=3, steps=4, fraction=0.75), 0.125, WHOLE_S - 0.875 + WHOLE_S),
        (Progress(phase=Phase.SAMPLING), 0.0, 4 * 2.0 + 3.0 + WHOLE_S),
        (Progress(phase=Phase.SAMPLING, step=3, steps=4), 1.0, 2.0 + 3.0 - 1.0 + WHOLE_S),
        (Progress(phase=Phase.SAMPLING, step=3, steps=4, image=2), 1.0, 4.0),
        (Progress(phase=Phase.DECODING, image=2), 1.0, 2.0),
        (Progress(phase=Phase.DECODING, image=2), -3600.0, 3.0),
        (Progress(phase=Phase.DECODING, fraction=0.75, image=2), 0.0, 0.75),
        (Progress(phase=Phase.SAVING, image=2), 5.0, 0.0),
        (Progress(phase=Phase.SAMPLING, step=3, steps=4, step_s=10.0), 1.0, 10.0 + 3.0 - 1.0 + 1.0 + 40.0 + 3.0),
        (Progress(phase=Phase.ENCODING, image=2, step_s=10.0), 0.0, 1.0 + 40.0 + 3.0),
    ],
)
def test_what_is_left_of_a_job_of_two_pictures(
    progress: Progress | None, elapsed_s: float, left_s: float | None
) -> None:
    assert KNOWN.remaining("tiny", PARAMS.model_copy(update={"n": 2}), progress, elapsed_s) == left_s


seconds = st.floats(min_value=0.0, max_value=1e6)
progresses = st.builds(
    Progress,
    phase=st.sampled_from(Phase),
    step=st.none() | st.integers(0, 200),
    fraction=st.none() | st.floats(min_value=0.0, max_value=1.5),
    image=st.integers(1, 6),
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    parts=st.fixed_dictionaries(dict.fromkeys(("load", "encode", "step", "decode"), seconds)),
    progress=progresses,
    elapsed_s=st.floats(min_value=-1e9, max_value=1e9),
    n=st.integers(1, 4),
    side=st.sampled_from([64, 256, 1024]),
)
def test_what_is_left_is_never_negative_and_never_more_than_everything(
    parts: dict[str, float], progress: Progress, elapsed_s: float, n: int, side: int
) -> None:
    durations = Durations(measured(**parts))
    params = PARAMS.model_copy(update={"n": n, "width": side, "height": side})
    left = durations.remaining("tiny", params, progress, elapsed_s)
    everything = durations.job("tiny", params)
    assert everything is not None
    assert (left is None) == (progress.phase in {Phase.FETCHING, Phase.WAITING_GPU})
    if left is not None:
        assert 0.0 <= left <= (parts["load"] + everything) * (1 + 1e-9)
    later = durations.remaining("tiny", params, progress, elapsed_s + 1.0)
    assert left is None or (later is not None and later <= left), "time brings the end nearer"


@pytest.mark.parametrize(
    ("remaining_s", "reload_s", "kill"),
    [
        *[(5.0, 4.0, True), (4.0, 4.0, False), (3.0, 4.0, False), (0.0, 0.0, False)],
        *[(None, 4.0, False), (5.0, None, False), (None, None, False)],
    ],
)
def test_a_cancel_ends_the_engine_only_where_that_is_known_to_be_sooner(
    remaining_s: float | None, reload_s: float | None, kill: bool
) -> None:
    assert cancel_by_kill(remaining_s, reload_s) is kill


# ---- the queue's forecast -------------------------------------------------------------------------------------


def estimator(active: list[ActiveJob], fetching: Fetching | None = None, **engine: Any) -> EtaEstimator:
    """The forecast of a queue in front of an engine that is in some state, or of files that are fetched."""
    view = SimpleNamespace(**{"state": EngineState.COLD, "model": None, "load": None, "load_started": None} | engine)
    worker: Any = SimpleNamespace(view=lambda: view, draining_s=lambda: engine.get("draining_s"))
    jobs: Any = SimpleNamespace(active=lambda: active)
    durations = Durations(measured(load=8.0, encode=1.0, step=2.0, decode=3.0) + measured("other", load=5.0, step=1.0))
    return EtaEstimator(jobs, durations, worker, lambda _model: fetching)


def queue(*models: str) -> list[ActiveJob]:
    return [ActiveJob(seq, f"job{seq}", model, PARAMS, 0.0) for seq, model in enumerate(models, 1)]


def running(one: ActiveJob, phase: Phase, ago_s: float = 0.0, **fields: Any) -> ActiveJob:
    return replace(one, running=True, progress=Progress(phase=phase, at=time.time() - ago_s, **fields))


def eta_s(of: EtaEstimator, seq: int) -> float | None:
    job: Any = SimpleNamespace(seq=seq, status=SimpleNamespace(ended=False))
    return of.eta_s(job)


def test_a_cold_engine_is_loaded_once_and_another_model_costs_another_load() -> None:
    of = estimator(queue("tiny", "tiny", "other", "tiny"))
    etas = [8 + WHOLE_S, 8 + 2 * WHOLE_S, 8 + 2 * WHOLE_S + 5 + 4, 8 + 3 * WHOLE_S + 5 + 4 + 8]
    assert [eta_s(of, seq) for seq in (1, 2, 3, 4)] == etas
    assert of.queue_s() == etas[-1]
    assert estimator([]).queue_s() == 0.0


@pytest.mark.parametrize(
    ("waiting", "engine", "model", "seconds"),
    [
        ([], {}, "tiny", 8 + WHOLE_S),
        ([], {"state": EngineState.READY, "model": "tiny"}, "tiny", WHOLE_S),
        ([], {"state": EngineState.READY, "model": "other"}, "tiny", 8 + WHOLE_S),
        (["tiny"], {}, "tiny", 8 + 2 * WHOLE_S),
        (["tiny"], {}, "other", 8 + WHOLE_S + 5 + 4),
        (["tiny", "unknown"], {}, "tiny", None),
        ([], {}, "unknown", None),
    ],
)
def test_a_job_that_is_not_there_yet_waits_for_the_queue_and_its_load(
    waiting: list[str], engine: dict[str, Any], model: str, seconds: float | None
) -> None:
    assert estimator(queue(*waiting), **engine).new_job_s(model, PARAMS) == seconds


UPSCALE = Params.of_upscale(256, 128, 4, "esrgan")


def test_an_upscale_costs_by_its_source_and_needs_no_load() -> None:
    durations = Durations([Measurement("up", "step", 64 * 64 * 16, 6.0), *measured(load=8.0, step=2.0)])
    larger, smaller = durations.job("up", UPSCALE), durations.job("up", Params.of_upscale(128, 64, 2, "esrgan"))
    assert larger == smaller == 3.0, "the network works by 4 whatever the factor"
    half = Progress(phase=Phase.UPSCALING, fraction=0.5, step_s=4.0)
    assert durations.remaining("up", UPSCALE, half, 0.5) == 1.5
    assert Durations().remaining("up", UPSCALE, half, 0.0) == 2.0, "known from its own first tiles"

    of = estimator([])
    of._durations.add(Measurement("up", "step", UPSCALE.pixels, 6.0))
    assert of.new_job_s("up", UPSCALE) == 6.0
    first, second = replace(queue("up")[0], params=UPSCALE), replace(queue("tiny")[0], seq=2, id="job2")
    mixed = estimator([first, second])
    mixed._durations.add(Measurement("up", "step", UPSCALE.pixels, 6.0))
    assert [eta_s(mixed, seq) for seq in (1, 2)] == [6.0, 6.0 + 8.0 + WHOLE_S]
    alone = estimator([first])
    alone._durations.add(Measurement("up", "step", UPSCALE.pixels, 6.0))
    assert alone.new_job_s("tiny", PARAMS) == 6.0 + 8.0 + WHOLE_S
    behind = estimator([second, replace(first, seq=3)], state=EngineState.READY, model="tiny")
    behind._durations.add(Measurement("up", "step", UPSCALE.pixels, 6.0))
    assert behind.new_job_s("tiny", PARAMS) == WHOLE_S + 6.0 + WHOLE_S, "the model stays loaded"


def test_a_load_that_runs_is_counted_once() -> None:
    first, second = queue("tiny", "tiny")
    active = [running(first, Phase.LOADING, ago_s=2.0), second]
    of = estimator(active, state=EngineState.LOADING, model="tiny", load_started=time.time() - 2.0)
    assert eta_s(of, 1) == pytest.approx(6.0 + WHOLE_S, abs=0.5)
    assert eta_s(of, 2) == pytest.approx(6.0 + 2 * WHOLE_S, abs=0.5)


def test_a_download_is_waited_for_before_the_load() -> None:
    first, second = queue("tiny", "tiny")
    active = [running(first, Phase.FETCHING), second]
    coming = Fetching("dit.gguf", 1000, 3000, 100.0)
    of = estimator(active, coming, state=EngineState.LOADING, model="tiny")
    assert [eta_s(of, seq) for seq in (1, 2)] == [20.0 + 8.0 + WHOLE_S, 20.0 + 8.0 + 2 * WHOLE_S]
    assert eta_s(estimator([first], coming), 1) == 20.0 + 8.0 + WHOLE_S, "nobody has begun to wait for it"
    stalled = replace(coming, bytes_per_s=None)
    assert eta_s(estimator(active, stalled, state=EngineState.LOADING, model="tiny"), 1) is None
    ready = estimator([first], coming, state=EngineState.READY, model="tiny")
    assert eta_s(ready, 1) == WHOLE_S, "what is loaded needs no file"


def test_the_running_picture_and_a_cancelled_one_are_waited_for() -> None:
    first, second = queue("tiny", "tiny")
    active = [running(first, Phase.SAMPLING, step=4), second]
    drawing = estimator(active, state=EngineState.DRAWING, model="tiny")
    assert eta_s(drawing, 2) == pytest.approx(3.0 + WHOLE_S, abs=0.5)
    draining = estimator([second], state=EngineState.DRAINING, model="tiny", draining_s=5.0)
    assert eta_s(draining, 2) == 5.0 + WHOLE_S
    assert eta_s(estimator([second], state=EngineState.DRAINING, model="tiny"), 2) is None


def test_a_models_first_job_is_expected_from_its_own_steps_once_it_runs() -> None:
    new, behind = queue("never-drawn", "tiny")
    drawing = running(new, Phase.SAMPLING, step=1, step_s=5.0)
    of = estimator([drawing, behind], state=EngineState.DRAWING, model="never-drawn")
    assert eta_s(of, 1) == pytest.approx(15.0, abs=0.5)
    assert eta_s(of, 2) == pytest.approx(15.0 + 8.0 + WHOLE_S, abs=0.5)
    encoding = estimator([running(new, Phase.ENCODING), behind], state=EngineState.DRAWING, model="never-drawn")
    assert [eta_s(encoding, seq) for seq in (1, 2)] == [None, None]


def test_one_unknown_part_makes_the_whole_unknown() -> None:
    assert eta_s(estimator(queue("tiny", "never-drawn", "tiny")), 1) is not None
    assert eta_s(estimator(queue("tiny", "never-drawn", "tiny")), 3) is None
    assert estimator(queue("tiny", "never-drawn")).queue_s() is None
    waiting = [running(queue("tiny")[0], Phase.WAITING_GPU)]
    assert eta_s(estimator(waiting), 1) is None


@pytest.mark.parametrize("set_back_s", [-86_400.0, 86_400.0])
def test_a_clock_that_is_set_leaves_the_forecast_within_reason(set_back_s: float) -> None:
    first, second = queue("tiny", "tiny")
    active = [running(first, Phase.SAMPLING, ago_s=set_back_s, step=1), second]
    eta = eta_s(estimator(active, state=EngineState.DRAWING, model="tiny"), 2)
    assert eta is not None
    assert WHOLE_S <= eta <= 2 * WHOLE_S
    started = time.time() - set_back_s
    loading = eta_s(estimator([first], state=EngineState.LOADING, model="tiny", load_started=started), 1)
    assert loading is not None
    assert WHOLE_S <= loading <= 8.0 + WHOLE_S

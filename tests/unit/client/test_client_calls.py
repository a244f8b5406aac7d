"""The client's calls without a network: retries, readings of a job, what is sent, and what is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from imagegen import requests
from imagegen_client import calls, errors
from imagegen_client.errors import Busy, NotFound, NotTheService, ServiceError, TooOld, Unavailable, Unreachable
from imagegen_client.watch import Watch
from imagegen_client.wire import Call, Pause, Reply, Request, Retries

T = TypeVar("T")
Answer = Reply | ServiceError
JOB = {"job_id": "a" * 32, "status": "running"}


class Clock:
    """A time that only pauses move on."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Wire:
    """Answers the requests of calls in order, and records them and the pauses."""

    def __init__(self, *answers: Answer, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.answers, self.requests, self.pauses = list(answers), list[Request](), list[float]()

    def run(self, call: Call[T]) -> T:
        try:
            step = next(call)
            while True:
                if isinstance(step, Pause):
                    self.pauses.append(step.seconds)
                    self.clock.now += step.seconds
                    step = call.send(None)
                    continue
                self.requests.append(step)
                answer = self.answers.pop(0)
                step = call.throw(answer) if isinstance(answer, ServiceError) else call.send(answer)
        except StopIteration as done:
            return done.value


def ok(body: Any, status: int = 200) -> Reply:
    return Reply(status, {"content-type": "application/json"}, json.dumps(body).encode())


def problem(status: int, code: str, retry_after: int | None = None) -> Reply:
    headers = {"content-type": "application/problem+json"}
    if retry_after is not None:
        headers["retry-after"] = str(retry_after)
    return Reply(status, headers, json.dumps({"code": code, "detail": f"It is {code}."}).encode())


REFUSED = Unreachable("no service answers", refused=True)
LOST = Unreachable("the connection broke")


@pytest.mark.parametrize(
    ("first", "answered", "repeated"),
    [
        (problem(429, "queue_full", 7), False, True),
        (problem(503, "shutting_down", 5), False, True),
        (problem(408, "request_timeout"), False, True),
        (LOST, False, True),
        (REFUSED, True, True),  # the service that answered before restarts
        (REFUSED, False, False),  # no service is there
        (problem(422, "unknown_model"), True, False),
        (problem(409, "idempotency_conflict"), True, False),
        (problem(500, "internal"), True, False),
        (Reply(502, {"content-type": "text/html"}, b"<h1>Bad Gateway</h1>"), True, False),
    ],
    ids=lambda value: (
        getattr(value, "code", None) or (value.content[:24].decode() if isinstance(value, Reply) else None)
    ),
)
def test_what_is_repeated_is_repeated_with_its_key(first: Answer, answered: bool, repeated: bool) -> None:
    wire = Wire(first, ok(JOB, 202))
    retries = Retries(30.0, lambda: answered, wire.clock)
    if not repeated:
        with pytest.raises(ServiceError):
            wire.run(calls.submit({"prompt": "a cat"}, None, retries))
        assert len(wire.requests) == 1 and wire.pauses == []
        return
    assert wire.run(calls.submit({"prompt": "a cat"}, None, retries)).job_id == JOB["job_id"]
    assert wire.requests[0] == wire.requests[1]
    assert len(wire.requests[0].headers["Idempotency-Key"]) == 32
    assert len(wire.pauses) == 1


def test_the_service_says_how_long_a_retry_waits() -> None:
    wire = Wire(problem(429, "queue_full", 7), problem(503, "gpu_busy", 3), ok(JOB, 202))
    wire.run(calls.submit({"prompt": "a cat"}, "mine", Retries(30.0, clock=wire.clock)))
    assert wire.pauses == [7, 3]
    assert {request.headers["Idempotency-Key"] for request in wire.requests} == {"mine"}


@pytest.mark.parametrize("for_s", [0.0, 6.9])
def test_no_retry_waits_longer_than_the_client_may(for_s: float) -> None:
    wire = Wire(problem(429, "queue_full", 7))
    with pytest.raises(Busy) as refused:
        wire.run(calls.submit({"prompt": "a cat"}, None, Retries(for_s, clock=wire.clock)))
    assert (refused.value.code, refused.value.status, refused.value.retry_after_s) == ("queue_full", 429, 7)
    assert wire.pauses == []


def test_two_requests_never_share_a_key() -> None:
    wire = Wire(ok(JOB), ok(JOB))
    for _ in range(2):
        wire.run(calls.submit({"prompt": "a cat"}))
    assert len({request.headers["Idempotency-Key"] for request in wire.requests}) == 2


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (calls.upscale({"image": "a" * 32}), "upscale pictures"),
        (calls.check({"prompt": "x"}), "check requests"),
        (calls.vary({"image": "a" * 32}), "draw variations"),
        (calls.inspect(b"png"), "inspect pictures"),
    ],
)
def test_a_route_that_is_missing_means_an_old_service(call: Call[Any], what: str) -> None:
    with pytest.raises(TooOld, match=f"This image service is too old to {what}"):
        Wire(problem(404, "not_found")).run(call)


def test_a_picture_that_is_missing_means_no_old_service() -> None:
    with pytest.raises(NotFound) as absent:
        Wire(problem(404, "image_not_found")).run(calls.upscale({"image": "a" * 32}))
    assert absent.value.code == "image_not_found"


@pytest.mark.parametrize("job_id", ["", "a/b", "../status", "a b", "a" * 129, "a?wait=1", "é"])
def test_text_that_is_no_id_is_never_sent(job_id: str) -> None:
    wire = Wire()
    for call in (calls.job(job_id), calls.cancel(job_id), calls.png(job_id), calls.drop_lease(job_id)):
        with pytest.raises(NotFound):
            wire.run(call)
    assert wire.requests == []


@pytest.mark.parametrize(
    "answer",
    [
        ok({"job_id": "a"}),
        ok({"job_id": "a", "status": "sleeping"}),
        ok({"job_id": 1, "status": "queued"}),
        ok(JOB | {"images": {}}),
        ok([]),
        Reply(200, {"content-type": "text/html"}, b"<html>"),
        Reply(200, {}, b"\xff"),
    ],
)
def test_an_answer_that_is_no_job_is_not_the_service(answer: Reply) -> None:
    with pytest.raises(NotTheService):
        Wire(answer).run(calls.job("a" * 32))


def test_fields_of_a_newer_service_are_ignored() -> None:
    state = Wire(ok(JOB | {"mood": "fine", "eta_s": 3, "progress": {"phase": "dreaming", "depth": 2}})).run(
        calls.job("a" * 32)
    )
    assert (state.eta_s, state.progress and state.progress.phase) == (3.0, "dreaming")


def test_the_body_has_what_was_given_and_no_more() -> None:
    options: dict[str, Any] = {"seed": 0, "steps": None, "draft": False, "idempotency_key": "k", "extra": {"new": 1}}
    assert calls.body_of(options, prompt="a cat", fit=None) == {"prompt": "a cat", "seed": 0, "draft": False, "new": 1}


@pytest.mark.parametrize(
    ("options", "request_"),
    [
        (calls.DrawOptions, requests.GenerateRequest),
        (calls.UpscaleOptions, requests.UpscaleRequest),
        (calls.VaryOptions, requests.VariationRequest),
    ],
)
def test_an_option_is_a_field_of_the_request(options: Any, request_: Any) -> None:
    assert set(options.__annotations__) - calls.NOT_SENT <= set(request_.model_fields)


def test_files_are_uploaded_and_ids_are_not() -> None:
    image = {"id": "b" * 32, "width": 1, "height": 1, "bytes": 1, "sha256": "c" * 64}
    wire = Wire(ok(image, 201), ok(image | {"id": "d" * 32}, 201), ok(JOB, 202))
    wire.run(calls.edit({"prompt": "blue"}, ["a" * 32, b"file"], b"mask"))
    assert [request.route for request in wire.requests] == ["/api/images", "/api/images", "/api/edit"]
    assert wire.requests[-1].json == {"prompt": "blue", "images": ["a" * 32, "b" * 32], "mask": "d" * 32}


def watch(wire: Wire, outage_s: float = 60.0) -> Watch:
    state = Wire(ok(JOB | {"status": "queued"})).run(calls.job("a" * 32))
    return Watch(state, outage_s=outage_s, clock=wire.clock)


def readings(wire: Wire, job: Watch) -> list[str]:
    found = []
    while (update := wire.run(job.next())) is not None:
        found.append(update.text)
    return found


DONE = JOB | {"status": "complete"}


def test_a_job_is_read_until_it_ends_and_no_longer() -> None:
    wire = Wire(ok(JOB), ok(JOB | {"progress": {"phase": "sampling", "step": 3, "steps": 4}}), ok(DONE))
    assert readings(wire, watch(wire)) == ["waiting in the queue", "starting", "drawing: step 3/4", "complete"]
    assert wire.answers == []


def test_a_restart_of_the_service_is_waited_for() -> None:
    silent = "the service does not answer, waiting"
    wire = Wire(LOST, REFUSED, problem(503, "shutting_down", 5), ok(JOB), REFUSED, ok(DONE))
    expected = ["waiting in the queue", silent, silent, silent, "starting", silent, "complete"]
    assert readings(wire, watch(wire)) == expected


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (REFUSED, Unreachable),
        (problem(503, "shutting_down", 5), Unavailable),
        (problem(404, "job_not_found"), NotFound),
        (problem(401, "unauthorized"), errors.Unauthorized),
    ],
    ids=["refused", "stopping", "unknown", "token"],
)
def test_an_outage_that_lasts_is_raised(answer: Answer, kind: type[ServiceError]) -> None:
    wire = Wire(*[answer] * 200)
    with pytest.raises(kind):
        readings(wire, watch(wire, outage_s=20.0))
    lasting: Callable[[float], bool] = lambda s: s >= 20 if kind in {Unreachable, Unavailable} else s == 0  # noqa: E731
    assert lasting(sum(wire.pauses))


def test_a_preview_is_fetched_once_and_kept_if_the_next_is_late() -> None:
    def at(step: int) -> Reply:
        return ok(JOB | {"preview": {"url": "u", "image": 1, "step": step, "steps": 9}})

    jpeg = Reply(200, {"content-type": "image/jpeg"}, b"jpeg")
    wire = Wire(at(1), jpeg, at(1), at(2), problem(404, "preview_not_found"), ok(DONE))
    job = watch(wire)
    steps = []
    while (update := wire.run(job.next())) is not None:
        steps.append(update.preview and update.preview.step)
    assert steps == [None, 1, 1, 1, 1]

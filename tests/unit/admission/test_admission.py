"""Admission in process: what the engine's pace refuses, what is rounded, what is left behind; and arbitrary JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from refusals import data_url_of
from starlette.applications import Starlette
from starlette.testclient import TestClient
from state_folder import NothingKnown, State, opened, scenario

from imagegen.admission.controller import AdmissionController
from imagegen.http.problems import HANDLERS
from imagegen.http.routes import images, jobs
from imagegen.jobs.durations import Durations, Measurement
from imagegen.models.catalog import Catalog
from imagegen.models.entry import Entry
from imagegen.models.loras.folder import LoraFolder
from imagegen.models.vocabulary import unknown_addition
from imagegen.prompts.guardrails import Guardrails
from imagegen.requests import EditRequest, GenerateRequest
from imagegen.schemas import Kind, Refused, Warn
from imagegen.settings import Settings

SLOW = Durations(Measurement("tiny", what, 64 * 64, seconds) for what, seconds in (("step", 1.0), ("decode", 1.0)))
Unfamiliar = Callable[[Entry, Kind, str], Sequence[Warn]]
CODES = {
    *("bad_json", "invalid_request", "prompt_too_long", "size_out_of_range", "job_too_large", "unknown_model"),
    *("unknown_image", "bad_image", "not_supported_by_model", "unsupported_media_type"),
}
"""Every 4xx code of docs/http.md that a submission on an idle service without tokens can have."""


def admission(
    state: State, durations: Durations, unfamiliar: Unfamiliar | None = None, **caps: Any
) -> AdmissionController:
    chosen = Settings(home=state.folder, **caps)
    guardrails = Guardrails.load(None)
    models: Any = NothingKnown()
    models.unfamiliar = unfamiliar or models.unfamiliar
    return AdmissionController(
        chosen,
        Catalog.load(chosen),
        guardrails,
        state.images,
        state.jobs,
        durations,
        "tiny",
        models,
        LoraFolder(chosen),
    )


@scenario
async def test_a_job_that_would_take_too_long_is_refused_at_once(folder: Path) -> None:
    async with opened(folder) as state:
        desk = admission(state, SLOW, max_job_s=10.0)
        fits = await desk.admit(GenerateRequest(prompt="a", width=64, height=64, steps=9))
        assert fits.params.steps == 9
        for larger in ({"steps": 10}, {"steps": 9, "n": 2}, {"steps": 9, "width": 128}):
            with pytest.raises(Refused, match="s here; at most 10 s are allowed") as caught:
                await desk.admit(GenerateRequest(**{"prompt": "a", "width": 64, "height": 64} | larger))
            assert (caught.value.status, caught.value.code) == (422, "job_too_large")
            assert "fewer steps, a smaller picture or fewer pictures" in caught.value.detail
        unknown = admission(state, Durations(), max_job_s=10.0)
        assert await unknown.admit(GenerateRequest(prompt="a", steps=100)), "what is not known is not refused"


@scenario
async def test_a_size_is_rounded_up_to_what_the_model_takes_and_that_is_said(folder: Path) -> None:
    async with opened(folder) as state:
        desk = admission(state, Durations(), max_dimension=500)
        for asked, taken in (((70, 64), (80, 64)), ((65, 499), (80, 496)), ((64, 64), (64, 64))):
            job = await desk.admit(GenerateRequest(prompt="a", width=asked[0], height=asked[1]))
            assert (job.params.width, job.params.height) == taken
            said = [warning.detail for warning in job.warnings if warning.code == "size_rounded"]
            if asked == taken:
                assert said == []
            else:
                sizes = f"{asked[0]}x{asked[1]} became {taken[0]}x{taken[1]}."
                assert said == [f"tiny draws sides that are multiples of 16 px: {sizes}"]


@scenario
async def test_a_side_outside_the_models_range_is_refused_with_the_range(folder: Path) -> None:
    table = [
        ("sketch", {"width": 1024, "height": 1024}, "width", "width is 1024; sketch takes 128 px."),
        ("sketch", {"height": 64}, "height", "height is 64; sketch takes 128 px."),
        ("tiny", {"width": 513}, "width", "width is 513; tiny takes 64 to 512 px."),
        (
            "tiny",
            {"width": 64, "height": 10**30},
            "height",
            "height is 10000000000000000000…; tiny takes 64 to 512 px.",
        ),
        ("flux2-klein-4b", {"width": 255}, "width", "width is 255; flux2-klein-4b takes 256 to 1024 px."),
    ]
    async with opened(folder) as state:
        desk = admission(state, Durations())
        for model, size, param, detail in table:
            for request in (
                GenerateRequest(prompt="a", model=model, **size),
                EditRequest(prompt="a", model=model, images=[data_url_of()], **size),
            ):
                with pytest.raises(Refused) as refused:
                    await desk.admit(request)
                said = refused.value
                assert (said.status, said.code, said.detail) == (422, "size_out_of_range", detail)
                assert said.extra == {"param": param}
        other = await desk.admit(GenerateRequest(prompt="a", steps=99, cfg_scale=9.0))
        assert [warning.code for warning in other.warnings if warning.code == "outside_range"] == ["outside_range"] * 2


@scenario
async def test_where_sizes_are_reduced_the_job_says_so(folder: Path) -> None:
    table = [
        ("sketch", (1024, 1024), (128, 128), "sketch draws sides of 128 px: 1024x1024 became 128x128."),
        ("sketch", (64, None), (128, 128), "sketch draws sides of 128 px: 64xauto became 128xauto."),
        ("tiny", (1536, 1024), (480, 320), "tiny draws sides of 64 to 512 px: 1536x1024 became 480x320."),
        ("tiny", (64, 64), (64, 64), None),
        ("tiny", (None, None), (128, 128), None),
    ]
    async with opened(folder) as state:
        desk = admission(state, Durations())
        for model, (width, height), taken, said in table:
            request = GenerateRequest(prompt="a", model=model, width=width, height=height)
            job = await desk.admit(request, reduce_size=True)
            assert (job.params.width, job.params.height) == taken
            told = [warning.detail for warning in job.warnings if warning.code.startswith("size_")]
            assert told == ([] if said is None else [said])
        for size in ((0, 0), (-1, 64), (64, -5)):
            with pytest.raises(Refused) as refused:
                await desk.admit(GenerateRequest(prompt="a", width=size[0], height=size[1]), reduce_size=True)
            assert refused.value.code == "size_out_of_range"


@scenario
async def test_an_edit_without_a_size_stays_within_the_range(folder: Path) -> None:
    async with opened(folder) as state:
        desk = admission(state, Durations())
        for model, drawn, codes in (("tiny", (256, 64), []), ("sketch", (128, 128), ["shape_not_kept"])):
            wide = data_url_of(size=(400, 100))
            job = await desk.admit(EditRequest(prompt="a", model=model, images=[wide]))
            assert (job.params.width, job.params.height) == drawn
            assert [warning.code for warning in job.warnings] == codes


@scenario
async def test_an_edit_of_a_shape_that_the_engine_would_refuse_is_refused_first(folder: Path) -> None:
    async with opened(folder) as state:
        desk = admission(state, Durations())
        wide = {"prompt": "a", "model": "glm-tiny", "width": 512}
        edit = wide | {"images": [data_url_of()]}
        for height in (64, 96):
            with pytest.raises(
                Refused, match=f"4 times as long one way as the other at most, .* 512x{height}"
            ) as refused:
                await desk.admit(EditRequest(**edit, height=height))
            assert (refused.value.status, refused.value.code) == (422, "size_out_of_range")
        assert (await desk.admit(EditRequest(**edit, height=128))).params.height == 128
        assert (await desk.admit(GenerateRequest(**wide, height=64))).params.height == 64, "only edits"


@scenario
async def test_pictures_of_a_request_that_is_refused_are_not_kept(folder: Path) -> None:
    async with opened(folder, max_queue=1) as state:
        desk = admission(state, SLOW, max_job_s=10.0)
        small = {"prompt": "a", "images": [data_url_of()], "width": 64, "height": 64, "steps": 4}
        with pytest.raises(Refused, match="about"):
            await desk.admit(EditRequest(**small | {"n": 4}))
        assert state.files() == []
        accepted = await desk.admit(EditRequest(**small), idempotency_key="k")
        assert state.files() == accepted.references
        assert await desk.admit(EditRequest(**small), idempotency_key="k") == accepted
        with pytest.raises(Refused, match="1 jobs are waiting"):
            await desk.admit(EditRequest(**small))
        with pytest.raises(Refused) as conflict:
            await desk.admit(EditRequest(**small | {"prompt": "b"}), idempotency_key="k")
        assert conflict.value.code == "idempotency_conflict"
        state.jobs.close()
        with pytest.raises(Refused) as closed:
            await desk.admit(EditRequest(**small))
        assert closed.value.code == "shutting_down"
        assert state.files() == accepted.references


@pytest.mark.parametrize(
    ("instruction", "unknown"),
    [
        ("add a giraffe", "a giraffe"),
        ("Please add a small purple giraffe in the corner.", "a small purple giraffe"),
        ("put two giraffes next to it", "two giraffes"),
        ("put the star away and add a lamp", "a lamp"),
        ("add a small red star", None),
        ("put a coffee cup in the corner", None),
        ("add a star on the giraffe's head", None),
        ("put it on a light blue background", None),
        ("add a light blue background", None),
        ("add another one", None),
        ("make the giraffe bigger", None),
        ("make it blue", None),
        ("an address and a padded input", None),
        ("add", None),
    ],
)
def test_an_edit_that_adds_what_the_model_does_not_know_is_told(instruction: str, unknown: str | None) -> None:
    warning = unknown_addition("small", [["star", "stars"], ["coffee cup", "mug"]], instruction)
    if unknown is None:
        assert warning is None
    else:
        assert warning is not None and warning.code == "unknown_subject"
        assert f'"{unknown}" is not among what it knows' in warning.detail
        assert "It knows: star, coffee cup." in warning.detail


@scenario
async def test_the_model_hears_whether_words_draw_or_edit(folder: Path) -> None:
    def unfamiliar(_entry: Entry, kind: Kind, prompt: str) -> tuple[Warn, ...]:
        return (Warn(code="unknown_subject", detail=f"{kind.value}: {prompt}"),)

    async with opened(folder) as state:
        desk = admission(state, Durations(), unfamiliar=unfamiliar)
        drawn = await desk.admit(GenerateRequest(prompt="a giraffe"))
        edited = await desk.admit(EditRequest(prompt="add a giraffe", images=[data_url_of()]))
        told = [[w.detail for w in job.warnings if w.code == "unknown_subject"] for job in (drawn, edited)]
        assert told == [["generate: a giraffe"], ["edit: add a giraffe"]]


# ---- arbitrary JSON -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """The routes of jobs and pictures over a real intake and queue, and no worker: what is accepted waits."""
    folder = tmp_path_factory.mktemp("desk")
    app = Starlette(routes=[*jobs.ROUTES, *images.ROUTES], exception_handlers=HANDLERS)
    with TestClient(app, raise_server_exceptions=False) as client:
        stack = AsyncExitStack()
        state = client.portal.call(stack.enter_async_context, opened(folder, max_queue=100_000))
        estimator = SimpleNamespace(eta_s=lambda _job: None)
        app.state.app = SimpleNamespace(admission=admission(state, Durations()), jobs=state.jobs, estimator=estimator)
        yield client
        client.portal.call(stack.aclose)


fields = st.sampled_from([*EditRequest.model_fields, "image", "width ", "__proto__", ""])
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(1, 1024)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["tiny", "euler", "contain", "a red circle", "0" * 32, "data:image/png;base64,", "1e999", "../x"])
)
values = st.recursive(leaves, lambda v: st.lists(v, max_size=4) | st.dictionaries(fields | st.text(), v, max_size=4))
requests = st.dictionaries(fields, leaves | values, max_size=8)
nearly = {  # within the caps, or just outside
    "width": st.integers(60, 200),
    "height": st.integers(60, 200),
    "steps": st.integers(0, 101),
    "seed": st.integers(-1, 2**32),
    "cfg_scale": st.floats(-1, 31),
    "n": st.integers(0, 5),
    "lease_s": st.integers(4, 3601),
    "negative": st.text(max_size=20),
    "model": st.just("tiny"),
    "sampler": st.sampled_from(["euler", "heun", "fast"]),
    "speed": st.sampled_from(["quality", "fast", "faster"]),
    "background": st.sampled_from(["opaque", "transparent", "white"]),
    "strength": st.floats(-1, 2),
}
likely = st.fixed_dictionaries({"prompt": st.text(min_size=1, max_size=30)}, optional=nearly)


def judged(answer: Any) -> None:
    assert answer.status_code in {202, 400, 413, 415, 422}, answer.text
    if answer.status_code == 202:
        assert answer.json()["status"] == "queued"
        return
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["code"] in CODES
    assert problem["detail"].endswith((".", "…"))


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(value=likely | values | requests, path=st.sampled_from(["/api/generate", "/api/edit"]))
def test_arbitrary_json_is_a_job_or_a_sentence(desk: TestClient, value: Any, path: str) -> None:
    body = json.dumps(value)  # NaN and infinities included, as Python writes them
    judged(desk.post(path, content=body, headers={"content-type": "application/json"}))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    parts=st.lists(st.tuples(fields, st.text(max_size=20) | st.binary(max_size=40)), max_size=8),
    files=st.lists(
        st.tuples(st.sampled_from(["image", "mask", "prompt", "images[]"]), st.binary(max_size=60)), max_size=4
    ),
)
def test_arbitrary_forms_are_a_job_or_a_sentence(
    desk: TestClient, parts: list[tuple[str, str | bytes]], files: list[tuple[str, bytes]]
) -> None:
    sent = [(name, (None, text)) for name, text in parts] + [(name, ("a.png", data)) for name, data in files]
    judged(desk.post("/api/edit", files=sent or [("x", (None, "y"))]))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    body=st.binary(max_size=200),
    kind=st.sampled_from(
        ["application/json", "multipart/form-data; boundary=b", "multipart/form-data", "image/png", ""]
    ),
    path=st.sampled_from(["/api/generate", "/api/edit", "/api/images"]),
)
def test_arbitrary_bytes_are_a_sentence(desk: TestClient, body: bytes, kind: str, path: str) -> None:
    judged(desk.post(path, content=body, headers={"content-type": kind}))

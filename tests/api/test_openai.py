"""OpenAI's images API, spoken by OpenAI's own Python SDK, unchanged, against the real engine."""

from __future__ import annotations

import base64
import contextlib
import io
import socket
import threading
from collections.abc import Iterator

import httpx
import openai
import pytest
from openai import OpenAI
from PIL import Image
from served import Service, until

SMALL = {"size": "64x64", "extra_body": {"steps": 2, "seed": 7}}


@pytest.fixture
def client(service: Service) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0, timeout=60) as client:
        yield client


def opened(b64: str | None) -> Image.Image:
    assert b64
    return Image.open(io.BytesIO(base64.b64decode(b64)))


@pytest.mark.parametrize(
    ("more", "has"),
    [
        ({"model": "dall-e-2"}, "url"),
        ({"model": "dall-e-3"}, "url"),
        ({"model": "dall-e-3", "response_format": "b64_json"}, "b64_json"),
        ({"model": "gpt-image-1"}, "b64_json"),
        ({}, "b64_json"),
    ],
)
def test_the_default_response_format_is_that_of_the_named_model(client: OpenAI, more: dict[str, str], has: str) -> None:
    drawn = client.images.generate(prompt="a red circle", **more, **SMALL).data[0]
    assert [name for name in ("url", "b64_json") if getattr(drawn, name)] == [has]


def test_a_picture_as_base64_and_the_same_one_as_a_url(client: OpenAI, service: Service) -> None:
    answer = client.images.generate(prompt="a red circle", **SMALL)
    picture = opened(answer.data[0].b64_json)
    assert (picture.format, picture.size) == ("PNG", (64, 64))
    assert (answer.output_format, answer.size, answer.background) == ("png", "64x64", "opaque")
    assert (answer.quality, answer.usage.total_tokens) == ("high", 0)
    assert answer.data[0].url is None
    by_url = client.images.generate(prompt="a red circle", response_format="url", **SMALL).data[0]
    assert by_url.b64_json is None
    fetched = service.http.get(by_url.url)
    assert Image.open(io.BytesIO(fetched.content)).tobytes() == picture.tobytes()
    assert by_url.model_extra["seed"] == 7


def test_several_pictures_in_the_format_and_compression_asked_for(client: OpenAI) -> None:
    fine = client.images.generate(prompt="a red circle", n=2, output_format="jpeg", **SMALL)
    coarse = client.images.generate(prompt="a red circle", n=2, output_format="jpeg", output_compression=10, **SMALL)
    assert [opened(one.b64_json).format for one in fine.data] == ["JPEG", "JPEG"]
    assert fine.data[0].b64_json != fine.data[1].b64_json
    assert [one.model_extra["seed"] for one in fine.data] == [7, 8]
    for small, large in zip(coarse.data, fine.data, strict=True):
        steps = [sum(opened(one.b64_json).quantization[0]) for one in (small, large)]
        assert steps[0] > 3 * steps[1], "it is compressed more"
    webp = client.images.generate(prompt="a red circle", output_format="webp", response_format="url", **SMALL)
    assert webp.data[0].url.endswith(".webp")


def test_sizes_that_must_be_rounded_say_so(client: OpenAI) -> None:
    answer = client.images.generate(prompt="a red circle", size="70x64", extra_body={"steps": 2})
    assert answer.size == "80x64"
    assert answer.model_extra["warnings"][0]["code"] == "size_rounded"
    assert opened(answer.data[0].b64_json).size == (80, 64)


@pytest.mark.parametrize(("asked", "drawn"), [("9999x64", "512x64"), ("32x32", "64x64"), ("64x1024", "64x512")])
def test_a_size_that_the_model_does_not_draw_is_reduced(client: OpenAI, asked: str, drawn: str) -> None:
    answer = client.images.generate(prompt="a red circle", size=asked, extra_body={"steps": 1})
    said = f"tiny draws sides of 64 to 512 px: {asked} became {drawn}."
    assert answer.model_extra["warnings"] == [{"code": "size_reduced", "detail": said}]
    assert answer.size == drawn
    assert "x".join(str(side) for side in opened(answer.data[0].b64_json).size) == drawn


def test_the_size_of_an_edit_and_of_a_stream_is_reduced_too(client: OpenAI) -> None:
    edited = client.images.edit(image=png("red"), prompt="blue", size="32x32", extra_body={"steps": 1})
    assert (edited.size, [one["code"] for one in edited.model_extra["warnings"]]) == ("64x64", ["size_reduced"])
    with client.images.generate(prompt="a", size="32x32", stream=True, extra_body={"steps": 1}) as stream:
        (event,) = stream
    assert (event.size, [one["code"] for one in event.model_extra["warnings"]]) == ("64x64", ["size_reduced"])


def test_edits_take_one_file_several_files_and_a_picture_of_ours(client: OpenAI, service: Service) -> None:
    red = png("red")
    one = client.images.edit(image=red, prompt="make it blue", **SMALL)
    two = client.images.edit(image=[red, png("green")], prompt="make it blue", **SMALL)
    pictures = [opened(answer.data[0].b64_json) for answer in (one, two)]
    assert [picture.size for picture in pictures] == [(64, 64), (64, 64)]
    assert pictures[0].tobytes() != pictures[1].tobytes(), "the second file changed nothing"
    jobs = [service.job(answer.model_extra["job_id"]) for answer in (one, two)]
    assert [len(job["references"]) for job in jobs] == [1, 2]
    assert [job["kind"] for job in jobs] == ["edit", "edit"]
    drawn = client.images.generate(prompt="a tree", response_format="url", **SMALL).data[0]
    data_url = "data:image/png;base64," + base64.b64encode(red[1]).decode()
    body = {"prompt": "make it blue", "size": "64x64", "steps": 2}
    for images in ([{"image_url": drawn.url}, {"image_url": data_url}], [drawn.model_extra["id"], data_url]):
        answer = service.http.post("/v1/images/edits", json=body | {"images": images})
        assert answer.status_code == 200, answer.text
        job = service.job(answer.json()["job_id"])
        assert job["references"][0] == drawn.model_extra["id"]
        assert len(job["references"]) == 2


def png(colour: str) -> tuple[str, bytes]:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(file, "PNG")
    return f"{colour}.png", file.getvalue()


def test_a_stream_ends_with_the_pictures(client: OpenAI) -> None:
    with client.images.generate(prompt="a red circle", n=2, stream=True, partial_images=0, **SMALL) as stream:
        events = list(stream)
    assert [event.type for event in events] == ["image_generation.completed"] * 2
    assert [opened(event.b64_json).size for event in events] == [(64, 64)] * 2
    assert (events[0].size, events[0].output_format, events[0].usage.total_tokens) == ("64x64", "png", 0)
    with client.images.edit(image=png("red"), prompt="blue", output_format="webp", stream=True, **SMALL) as stream:
        (event,) = stream
    assert event.type == "image_edit.completed"
    assert opened(event.b64_json).format == "WEBP"


@pytest.mark.parametrize("output_format", ["png", "webp"])
def test_a_stream_has_the_partial_pictures_that_were_asked_for(client: OpenAI, output_format: str) -> None:
    steps = {"size": "64x64", "extra_body": {"steps": 100, "seed": 7}}
    with client.images.generate(
        prompt="a", stream=True, partial_images=3, output_format=output_format, **steps
    ) as stream:
        *partials, last = stream
    assert last.type == "image_generation.completed"
    assert 1 <= len(partials) <= 3
    for index, event in enumerate(partials):
        assert (event.type, event.partial_image_index) == ("image_generation.partial_image", index)
        assert (event.output_format, event.size, event.background) == (output_format, "64x64", "opaque")
        picture = opened(event.b64_json)
        assert (picture.format.lower(), picture.size) == (output_format, (64, 64))


def test_an_edit_has_partial_pictures_and_only_a_stream_has_them(client: OpenAI) -> None:
    more = {"size": "64x64", "extra_body": {"steps": 100}}
    with client.images.edit(image=png("red"), prompt="blue", stream=True, partial_images=1, **more) as stream:
        partial, last = stream
    assert (partial.type, partial.partial_image_index) == ("image_edit.partial_image", 0)
    assert last.type == "image_edit.completed"
    answer = client.images.generate(prompt="a", partial_images=2, **SMALL)
    assert "partial_images=2 has no effect here" in answer.warnings[0]["detail"]


REFUSALS = [
    ({"size": "big"}, "invalid_value", "size"),
    ({"n": 99}, "invalid_request", "n"),
    ({"prompt": "x" * 4001}, "prompt_too_long", "prompt"),
    ({"background": "transparent", "output_format": "jpeg"}, "unsupported_value", "background"),
    ({"background": "transparent", "output_format": "jpeg", "stream": True}, "unsupported_value", "background"),
    ({"output_format": "gif"}, "invalid_value", "output_format"),
    ({"output_compression": 101, "output_format": "jpeg"}, "invalid_value", "output_compression"),
    ({"stream": True, "partial_images": 4}, "invalid_value", "partial_images"),
    ({"stream": True, "response_format": "url"}, "unsupported_value", "response_format"),
    ({"stream": True, "size": "0x64"}, "invalid_value", "size"),
    ({"extra_body": {"negative": "a", "negative_prompt": "b"}}, "invalid_value", "negative_prompt"),
    ({"extra_body": {"steps": 1000}}, "invalid_request", "steps"),
    ({"extra_body": {"cfg_scale": "much"}}, "invalid_value", "cfg_scale"),
]


@pytest.mark.parametrize(("asked", "code", "param"), REFUSALS)
def test_what_cannot_be_done_is_refused_by_name(client: OpenAI, asked: dict, code: str, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.images.generate(**({"prompt": "a red circle"} | asked))
    error = refused.value
    assert (error.code, error.param, error.type) == (code, param, "invalid_request_error")
    assert len(error.body["message"]) > 10


def test_what_changes_no_picture_is_taken(client: OpenAI) -> None:
    answer = client.images.generate(
        prompt="a red circle", user="somebody", safety_identifier="x", quality="auto", moderation="auto",
        background="opaque", output_compression=100, n=None, response_format=None, **SMALL,
    )  # fmt: skip
    assert opened(answer.data[0].b64_json).size == (64, 64)
    assert hints_of(answer) == []


def test_noise_keeps_its_background_and_the_answer_says_that(client: OpenAI, service: Service) -> None:
    answer = client.images.generate(prompt="a red circle", background="transparent", output_format="webp", **SMALL)
    assert (answer.background, opened(answer.data[0].b64_json).mode) == ("opaque", "RGB")
    assert [one["code"] for one in answer.model_extra["warnings"]] == ["background_kept"]
    assert service.job(answer.model_extra["job_id"])["params"]["background"] == "transparent"


def hints_of(answer: openai.types.ImagesResponse) -> list[str]:
    warnings = (answer.model_extra or {}).get("warnings", [])
    return [one["detail"] for one in warnings if one["code"] == "hint_without_effect"]


def test_hints_of_other_services_become_warnings(client: OpenAI, service: Service) -> None:
    answer = client.images.generate(
        prompt="a red circle", model="gpt-image-1", quality="low", style="vivid", moderation="low",
        extra_body={"num_inference_steps": 2, "width": 64, "height": 64, "seed": -1, "colour": "red"},
    )  # fmt: skip
    assert opened(answer.data[0].b64_json).size == (64, 64)
    assert [detail.split()[0] for detail in hints_of(answer)] == [
        "style='vivid'",
        "moderation='low'",
        "Unknown",
        "quality='low'",
    ]
    job = service.job(answer.model_extra["job_id"])
    assert (job["model"], job["params"]["steps"], job["params"]["seed_given"]) == ("tiny", 2, False)
    assert job["warnings"] == answer.model_extra["warnings"]


def test_pictures_in_a_generation_ask_for_an_edit(client: OpenAI, service: Service) -> None:
    red = base64.urlsafe_b64encode(png("red")[1]).decode().rstrip("=")
    answer = client.images.generate(
        prompt="make it blue", extra_body={"ref_images": [red], "input_fidelity": "high"}, size="64x64"
    )
    job = service.job(answer.model_extra["job_id"])
    assert (job["kind"], len(job["references"])) == ("edit", 1)


def test_models_are_listed_found_and_missed(client: OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert "tiny" in names
    assert client.models.retrieve("tiny").object == "model"
    assert client.models.retrieve("gpt-image-2").model_extra == {"alias_of": "tiny"}
    assert names.index("tiny") < names.index("gpt-image-2")
    for miss in (
        lambda: client.models.retrieve("gpt-image-99"),
        lambda: client.images.generate(prompt="a red circle", model="gpt-image-99"),
    ):
        with pytest.raises(openai.NotFoundError) as missed:
            miss()
        assert missed.value.code == "model_not_found"
        assert "tiny" in missed.value.body["message"]
    assert opened(client.images.generate(prompt="a", model="tiny", **SMALL).data[0].b64_json)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # OpenAI has them for dall-e-2 only
def test_variations_are_edits_of_one_picture(client: OpenAI, service: Service) -> None:
    answer = client.images.create_variation(image=png("red"), n=2, model="tiny", user="u", **SMALL)
    assert [opened(one.b64_json).size for one in answer.data] == [(64, 64)] * 2
    assert answer.data[0].b64_json != answer.data[1].b64_json
    job = service.job(answer.model_extra["job_id"])
    assert (job["kind"], len(job["references"]), job["params"]["n"]) == ("edit", 1, 2)
    assert job["prompt"].startswith("Draw this picture anew")
    for files in ([], [("image", png("red")), ("image", png("blue"))]):
        refused = service.http.post("/v1/images/variations", data={"n": "1"}, files=files or {"x": png("red")})
        assert (refused.status_code, refused.json()["error"]["type"]) == (400, "invalid_request_error"), refused.text


def test_every_error_under_v1_has_openais_shape(service: Service) -> None:
    too_large = b'{"prompt": "' + b"x" * (26 * 1024 * 1024) + b'"}'
    answers = {
        "not_found": service.http.get("/v1/nothing"),
        "method_not_allowed": service.http.get("/v1/images/generations"),
        "bad_json": json_post(service, b"{"),
        "body_too_large": json_post(service, too_large),
        "unsupported_media_type": service.http.post("/v1/images/generations", content=b"x"),
        "missing_required_parameter": service.http.post("/v1/images/edits", json={"prompt": "a"}),
        "invalid_value": service.http.post(
            "/v1/images/edits", json={"prompt": "a", "images": [{"image_url": "https://example.com/a.png"}]}
        ),
        "bad_image": service.http.post(
            "/v1/images/edits", data={"prompt": "a"}, files={"image": ("a.png", b"no picture", "image/png")}
        ),
    }
    for code, answer in answers.items():
        assert answer.status_code in {400, 404, 405, 413, 415}, answer.text
        error = answer.json()["error"]
        assert error.keys() == {"message", "type", "param", "code"}
        assert (error["type"], error["code"]) == ("invalid_request_error", code)
    assert answers["method_not_allowed"].headers["allow"] == "POST"


def json_post(service: Service, body: bytes) -> httpx.Response:
    return service.http.post("/v1/images/generations", content=body, headers={"Content-Type": "application/json"})


@pytest.mark.parametrize("stream", [False, True])
def test_a_dropped_connection_cancels_its_job_and_a_key_keeps_it(service: Service, stream: bool) -> None:
    dropped, kept = (f"dropped, stream {stream}", f"kept, stream {stream}")
    with service.at_work():
        lines = [ask(service, dropped, stream), ask(service, kept, stream, key=f"key-{stream}")]
        until(lambda: {dropped, kept} <= statuses(service).keys(), "both wait")
        for line in lines:
            line.close()
        until(lambda: statuses(service)[dropped] == "cancelled", "the job nobody can come back to ends")
        assert statuses(service)[kept] == "queued"
    body = {"prompt": kept, "size": "64x64", "steps": 2, "stream": stream}
    again = service.http.post("/v1/images/generations", json=body, headers={"Idempotency-Key": f"key-{stream}"})
    assert again.status_code == 200, again.text
    assert statuses(service)[kept] == "complete"


def ask(service: Service, prompt: str, stream: bool, key: str | None = None) -> socket.socket:
    """Send a request and do not wait for its answer."""
    body = httpx.Request("POST", "http://x/", json={"prompt": prompt, "size": "64x64", "steps": 2, "stream": stream})
    head = (
        f"POST /v1/images/generations HTTP/1.1\r\nHost: 127.0.0.1:{service.port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body.content)}\r\n"
    )
    if key is not None:
        head += f"Idempotency-Key: {key}\r\n"
    line = socket.create_connection(("127.0.0.1", service.port))
    line.sendall(f"{head}\r\n".encode() + body.content)
    return line


def statuses(service: Service) -> dict[str, str]:
    items = service.http.get("/api/jobs", params={"limit": 200}).json()["items"]
    return {item["prompt"]: item["status"] for item in reversed(items)}


def test_a_job_that_somebody_else_cancels_is_told_and_not_tried_again(service: Service) -> None:
    with (
        service.at_work(),
        OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=2, timeout=60) as client,
    ):
        for stream in (False, True):
            prompt = f"unwanted, stream {stream}"
            with cancelling(service, prompt), pytest.raises(openai.APIError) as told:
                list(client.images.generate(prompt=prompt, stream=stream, **SMALL))
            assert told.value.code == "cancelled"
            prompts = [item["prompt"] for item in service.http.get("/api/jobs").json()["items"]]
            assert prompts.count(prompt) == 1


@contextlib.contextmanager
def cancelling(service: Service, prompt: str) -> Iterator[None]:
    """While inside, the job with this prompt is cancelled as soon as it is there."""

    def cancel() -> None:
        until(lambda: prompt in statuses(service), "the job is there")
        items = service.http.get("/api/jobs").json()["items"]
        job_id = next(item["job_id"] for item in items if item["prompt"] == prompt)
        service.http.delete(f"/api/jobs/{job_id}")

    thread = threading.Thread(target=cancel)
    thread.start()
    yield
    thread.join(60)

"""OpenAI's parameters and its clients' dialects: what is taken, what becomes a warning, what is refused."""

from __future__ import annotations

import base64
from types import SimpleNamespace
from typing import Any

import pytest

from imagegen.http.encoded_pictures import as_data_url
from imagegen.http.openai.fields import settled
from imagegen.http.openai.request import ImagesEditRequest, ImagesRequest
from imagegen.http.openai.routes import _taken
from imagegen.models.aliases import Aliases
from imagegen.models.catalog import Catalog
from imagegen.requests import EditRequest
from imagegen.schemas import Refused

KNOWN = frozenset(ImagesRequest.model_fields)


@pytest.mark.parametrize(
    ("fields", "left"),
    [
        ({"user": "a", "safety_identifier": "b"}, {}),
        ({"quality": "standard", "moderation": "auto", "background": "opaque"}, {}),
        ({"quality": None, "style": None, "negative_prompt": None, "lora": None, "svg": None}, {}),
        ({"frame_count": 1, "loras": []}, {}),
        ({"quality": "low"}, {"quality": "low"}),
        ({"negative_prompt": "hats"}, {"negative": "hats"}),
        ({"num_inference_steps": 9, "guidance_scale": 2.5}, {"steps": 9, "cfg_scale": 2.5}),
        ({"num_inference_steps": 9, "steps": 9}, {"steps": 9}),
        ({"num_inference_steps": 9, "steps": None}, {"steps": 9}),
        ({"seed": -1}, {}),
        ({"seed": "-1"}, {}),
        ({"seed": 5}, {"seed": 5}),
        ({"loras": [{"name": "a"}]}, {"loras": [{"name": "a"}]}),
        ({"output_format": "jpg"}, {"output_format": "jpeg"}),
        ({"partial_images": 3}, {"partial_images": 3}),
        ({"background": "auto"}, {}),
        ({"background": "transparent"}, {"background": "transparent"}),
    ],
)
def test_taken_without_a_warning(fields: dict[str, Any], left: dict[str, Any]) -> None:
    assert settled(fields, KNOWN, strict=False) == (left, [])


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ({"quality": "high"}, "quality='high' has no effect here. There are no levels of quality"),
        ({"style": "vivid"}, "style='vivid' has no effect here. Describe the style in the prompt instead."),
        ({"moderation": "low"}, "moderation='low' has no effect here."),
        ({"input_fidelity": "high"}, "input_fidelity='high' has no effect here."),
        ({"background": "white"}, "background='white' has no effect here."),
        ({"complexity": {"a": [1] * 99}}, "complexity={'a': [1, 1"),
        ({"b": 1, "a": 2}, "Unknown fields have no effect: 'a', 'b'."),
        ({f"x{n:02}": 1 for n in range(30)}, "'x07' and 22 more."),
        ({"x" * 900: 1}, f"'{'x' * 64}'."),
    ],
)
def test_taken_with_a_warning_and_refused_by_a_strict_service(fields: dict[str, Any], detail: str) -> None:
    left, (warning,) = settled({"prompt": "a"} | fields, KNOWN, strict=False)
    assert left == {"prompt": "a"}
    assert warning.code == "hint_without_effect"
    assert detail in warning.detail
    assert len(warning.detail) < 200
    if "Unknown" not in detail and "x" not in detail:
        with pytest.raises(Refused) as refused:
            settled(fields, KNOWN, strict=True)
        assert (refused.value.code, refused.value.extra) == ("unsupported_value", {"param": next(iter(fields))})


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(
    "fields",
    [{"frame_count": 4}, {"svg": {"model": "x"}}, {"markup": "circle"}],
)
def test_another_picture_is_refused(fields: dict[str, Any], strict: bool) -> None:
    with pytest.raises(Refused) as refused:
        settled(fields, KNOWN, strict)
    assert (refused.value.status, refused.value.code) == (400, "unsupported_value")


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"lora": "a"}, "lora", "unsupported_value"),
        ({"loras[][name]": "a"}, "loras", "invalid_value"),
        ({"control_image": "aaaa"}, "control_image", "unsupported_value"),
        ({"negative_prompt": "a", "negative": "b"}, "negative_prompt", "invalid_value"),
        ({"guidance_scale": 1, "cfg_scale": 2}, "guidance_scale", "invalid_value"),
    ],
)
def test_refused_by_a_tolerant_service(fields: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(Refused) as refused:
        settled(fields, KNOWN, strict=False)
    assert (refused.value.code, refused.value.extra["param"]) == (code, param)


@pytest.mark.parametrize("strict", [False, True])
def test_a_transparent_background_is_asked_for_in_both_modes(strict: bool) -> None:
    left, warnings = settled({"background": "transparent"}, KNOWN, strict)
    assert warnings == []
    assert ImagesRequest.model_validate(left | {"prompt": "a"}).wanted().background == "transparent"


@pytest.mark.parametrize(("model", "strength"), [("tiny", 0.4), ("glm-tiny", None)])
def test_a_strength_that_the_model_has_not_is_a_hint(model: str, strength: float | None) -> None:
    catalog = Catalog.packaged()
    app: Any = SimpleNamespace(
        catalog=catalog, aliases=Aliases("dall-e-3", catalog.names(), "tiny"), default_entry=catalog.get("tiny")
    )
    asked = ImagesEditRequest(prompt="a", images=["b"], model=model, strength=0.4)
    wanted = _taken(app, asked)
    assert isinstance(wanted, EditRequest) and wanted.strength == strength
    told = (
        [] if strength else ["strength=0.4 has no effect here. glm-tiny takes the picture as a reference, as a whole."]
    )
    assert [one.detail for one in asked.warnings] == told


@pytest.mark.parametrize("name", ["width", "height"])
def test_a_strict_service_does_not_know_sides(name: str) -> None:
    with pytest.raises(Refused) as refused:
        settled({name: 64}, KNOWN, strict=True)
    assert (refused.value.code, refused.value.extra["param"]) == ("unknown_parameter", name)


@pytest.mark.parametrize(
    ("fields", "sides"),
    [
        ({}, (None, None)),
        ({"size": "auto"}, (None, None)),
        ({"size": "64x128"}, (64, 128)),
        ({"width": 64, "height": 128}, (64, 128)),
        ({"width": 64, "size": "auto"}, (64, None)),
        ({"width": 64, "height": 128, "size": "64x128"}, (64, 128)),
    ],
)
def test_sizes(fields: dict[str, Any], sides: tuple[int | None, int | None]) -> None:
    wanted = ImagesEditRequest(prompt="a", images=["b"], **fields).wanted()
    assert (wanted.width, wanted.height) == sides


@pytest.mark.parametrize("fields", [{"size": "64"}, {"size": "0x64"}, {"size": "64x64", "width": 128}])
def test_sizes_that_contradict(fields: dict[str, Any]) -> None:
    with pytest.raises(Refused) as refused:
        ImagesRequest(prompt="a", **fields).wanted()
    assert refused.value.extra["param"] == "size"


BYTES = bytes(range(256))
STANDARD = base64.b64encode(BYTES).decode()


@pytest.mark.parametrize(
    "text",
    [
        f"data:image/png;base64,{STANDARD}",
        STANDARD,
        base64.urlsafe_b64encode(BYTES).decode(),
        base64.urlsafe_b64encode(BYTES).decode().rstrip("="),
        base64.encodebytes(BYTES).decode(),
        "data:image/png;base64," + base64.urlsafe_b64encode(BYTES).decode().rstrip("="),
    ],
)
def test_base64_of_any_spelling_becomes_a_data_url(text: str) -> None:
    assert as_data_url(text) == f"data:image/png;base64,{STANDARD}"


@pytest.mark.parametrize("text", ["", "circle.png", "0" * 32, "https://example.org/" + "a" * 99, "data:" + "x" * 300])
def test_what_is_no_base64_stays(text: str) -> None:
    assert as_data_url(text) == text

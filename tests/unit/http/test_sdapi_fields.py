"""Fields of AUTOMATIC1111's API: what is taken, what becomes a warning, what is refused; samplers by their names."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from imagegen.http.asgi import make_app
from imagegen.http.routes.session import Sessions
from imagegen.http.sdapi import fields
from imagegen.http.sdapi.request import ImageToImage, TextToImage, read, wanted
from imagegen.models.aliases import Aliases
from imagegen.models.catalog import Catalog
from imagegen.models.entry_tables import ADAPTER_SAMPLERS, SAMPLERS
from imagegen.requests import EditRequest
from imagegen.schemas import Refused
from imagegen.settings import Settings
from imagegen.telemetry.metrics import Metrics

CATALOG = Catalog.packaged()
APP: Any = SimpleNamespace(
    catalog=CATALOG, aliases=Aliases("dall-e-3", CATALOG.names(), "tiny"), default_entry=CATALOG.get("tiny")
)
PICTURE = "A" * 80

DEFAULTS: dict[str, Any] = {
    "enable_hr": False, "hr_scale": 2, "hr_upscaler": "Latent", "hr_prompt": "", "denoising_strength": 0.7,
    "firstphase_width": 0, "styles": [], "seed": -1, "subseed": -1, "subseed_strength": 0.0, "seed_resize_from_h": 0,
    "batch_size": 1, "n_iter": 1, "restore_faces": False, "tiling": False, "do_not_save_samples": False, "eta": 1.0,
    "s_churn": 0, "s_noise": 1, "override_settings": {}, "override_settings_restore_afterwards": True,
    "sampler_name": "Euler a", "scheduler": "Automatic", "sampler_index": "Euler a", "script_name": None,
    "script_args": [], "send_images": True, "save_images": False, "alwayson_scripts": {},
}  # fmt: skip
"""What a client sends that fills in every field of txt2img."""


def asked(body: dict[str, Any], model: type[TextToImage] = TextToImage, chosen: str | None = None) -> tuple[Any, list]:
    """The request, and its warnings' sentences."""
    request, warnings = read(model, {"prompt": "a"} | body)
    job = wanted(APP, request, chosen, warnings)
    assert all(one.code == "hint_without_effect" for one in warnings)
    return job, [one.detail for one in warnings]


def test_a_client_that_sends_every_default_gets_no_warning() -> None:
    job, warnings = asked(DEFAULTS)
    assert warnings == []
    assert (job.sampler, job.seed, job.n, job.model, job.width) == ("euler_a", None, 1, None, None)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"negative_prompt": "hats"}, {"negative": "hats"}),
        ({"seed": 7, "steps": 20, "cfg_scale": 7}, {"seed": 7, "steps": 20, "cfg_scale": 7.0}),
        ({"seed": -1.0, "steps": 20.0}, {"seed": None, "steps": 20}),
        ({"batch_size": 2, "n_iter": 2}, {"n": 4}),
        ({"width": 512, "height": 768}, {"width": 512, "height": 768}),
        ({"override_settings": {"sd_model_checkpoint": "sketch [0123abcdef]"}}, {"model": "sketch"}),
        ({"override_settings": {"sd_model_checkpoint": "dall-e-3"}}, {"model": "tiny"}),
        ({"override_settings": None, "sampler_name": "", "sampler_index": "LCM"}, {"model": None, "sampler": "lcm"}),
    ],
)
def test_what_has_an_effect(body: dict[str, Any], expected: dict[str, Any]) -> None:
    job, warnings = asked(body)
    assert {name: getattr(job, name) for name in expected} == expected
    assert warnings == []


def test_the_model_that_was_chosen_counts_until_a_request_names_one() -> None:
    assert asked({}, chosen="sketch")[0].model == "sketch"
    assert asked({"override_settings": {"sd_model_checkpoint": "tiny"}}, chosen="sketch")[0].model == "tiny"


@pytest.mark.parametrize(
    ("body", "warning"),
    [
        ({"scheduler": "Karras"}, "scheduler='Karras' has no effect here. The model brings its own scheduler."),
        ({"restore_faces": True}, "restore_faces=True has no effect here."),
        ({"sampler_name": "UniPC"}, "sampler_name='UniPC' has no effect here. tiny draws with its own sampler"),
        ({"colour": "red"}, "Unknown fields have no effect: 'colour'."),
        ({"override_settings": {"sd_vae": "x"}}, "Unknown fields have no effect: 'override_settings.sd_vae'."),
    ],
)
def test_what_has_no_effect_becomes_a_warning(body: dict[str, Any], warning: str) -> None:
    (found,) = asked(body)[1]
    assert found.startswith(warning)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"enable_hr": True}, "no hires fix"),
        ({"tiling": True}, "tile"),
        ({"styles": ["Cyberpunk"]}, "no saved styles"),
        ({"subseed_strength": 0.5}, "second seed"),
        ({"script_name": "x/y/z plot"}, "no scripts"),
        ({"refiner_checkpoint": "x"}, "no refiners"),
        ({"alwayson_scripts": {"ControlNet": {"args": []}}}, "(ControlNet)"),
        ({"inpainting_mask_invert": 1}, "white is what may change"),
        ({"override_settings": {"sd_model_checkpoint": "v1-5-pruned"}}, "There is no model 'v1-5-pruned'"),
        ({"steps": "many"}, "steps"),
        ({"prompt": 5}, "prompt must be text."),
        ({"cfg_scale": []}, "cfg_scale"),
    ],
)
def test_another_picture_is_refused_by_name(body: dict[str, Any], told: str) -> None:
    with pytest.raises(Refused) as refused:
        asked(body)
    assert refused.value.status == 422
    assert told in refused.value.detail


@pytest.mark.parametrize(
    ("body", "fit"),
    [({}, "stretch"), ({"resize_mode": 0}, "stretch"), ({"resize_mode": 1}, "cover"), ({"resize_mode": 2}, "contain")],
)
def test_img2img_becomes_an_edit(body: dict[str, Any], fit: str) -> None:
    job, warnings = asked({"init_images": [PICTURE], "denoising_strength": 0.4, "mask_blur": 4} | body, ImageToImage)
    assert isinstance(job, EditRequest)
    assert (job.images, job.mask, job.fit) == ([f"data:image/png;base64,{PICTURE}"], None, fit)
    assert (job.strength, warnings) == (0.4, [])


def test_a_strength_that_the_model_has_not_is_a_hint() -> None:
    body = {"init_images": [PICTURE], "denoising_strength": 0.4}
    job, warnings = asked(body, ImageToImage, chosen="glm-tiny")
    assert job.strength is None
    assert warnings == [
        "denoising_strength=0.4 has no effect here. glm-tiny takes the picture as a reference, as a whole."
    ]


def test_a_mask_goes_along_and_its_tuning_does_not() -> None:
    job, warnings = asked({"init_images": [PICTURE], "mask": PICTURE, "mask_blur": 4, "mask_round": 0}, ImageToImage)
    assert job.mask == f"data:image/png;base64,{PICTURE}"
    assert warnings == ["mask_blur=4 has no effect here. The mask is used as it is."]


def test_img2img_without_a_picture_is_refused() -> None:
    for body in ({"init_images": []}, {}):
        with pytest.raises(Refused):
            asked(body, ImageToImage)


@pytest.mark.parametrize(
    ("name", "sampler"),
    [
        *((name, name) for name in SAMPLERS),
        ("Euler", "euler"),
        ("Euler a", "euler_a"),
        ("k_euler_a", "euler_a"),
        ("euler_ancestral", "euler_a"),
        ("DPM++ 2M", "dpm++2m"),
        ("DPM++ 2M Karras", "dpm++2m"),
        ("dpmpp_2m", "dpm++2m"),
        ("DPM++ 2S a Karras", "dpm++2s_a"),
        ("DDIM", "ddim_trailing"),
        ("LCM", "lcm"),
        ("DPM++ SDE", None),
        ("Karras", None),
        ("", None),
    ],
)
def test_samplers_by_their_many_names(name: str, sampler: str | None) -> None:
    assert fields.sampler_of(name, SAMPLERS) == sampler


def test_a_model_with_a_sampler_of_its_own_takes_no_other() -> None:
    assert fields.sampler_of("Euler a", ADAPTER_SAMPLERS["glm"]) is None


def test_the_api_can_be_switched_off(tmp_path: Path) -> None:
    app = make_app(Sessions(None, tmp_path / "key"), Metrics())
    app.state.app = SimpleNamespace(settings=Settings(a1111=False))

    async def ask(path: str) -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
            return await client.get(path)

    answer = asyncio.run(ask("/sdapi/v1/loras"))
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert "IMAGEGEN_A1111=0" in answer.json()["detail"]

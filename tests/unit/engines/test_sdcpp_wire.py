"""The JSON of a picture that starts from another one: the noise levels, and the picture."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from imagegen.engines.base import DrawRequest
from imagegen.engines.sdcpp.wire import request_body

PICTURE = b"a PNG"


def sent(steps: int, strength: float | None, mask: bytes | None = None) -> dict[str, Any]:
    request = DrawRequest(
        prompt="make it blue", negative="", width=64, height=64, steps=steps, cfg_scale=1.0, sampler="euler",
        scheduler="simple", seed=1, references=(PICTURE,), mask=mask, strength=strength,
    )  # fmt: skip
    body: dict[str, Any] = json.loads(request_body(request))
    return body


@pytest.mark.parametrize(
    ("steps", "strength", "levels"),
    [
        (4, 0.5, [0.5, 0.375, 0.25, 0.125, 0]),
        (1, 0.2, [0.2, 0]),
        (1, 0.0, [0.01, 0]),
        (2, 0.999, [0.999, 0.4995, 0]),
    ],
)
def test_an_edit_with_a_strength_starts_from_its_first_picture(
    steps: int, strength: float, levels: list[float]
) -> None:
    body = sent(steps, strength)
    assert body["sample_params"]["custom_sigmas"] == pytest.approx(levels)
    assert (body["sample_params"]["sample_steps"], body["strength"]) == (steps, 1.0)
    assert body["init_image"] == body["ref_images"][0] == base64.b64encode(PICTURE).decode()
    assert "mask_image" not in body


@pytest.mark.parametrize("strength", [None, 1.0])
def test_all_noise_needs_no_picture_to_start_from(strength: float | None) -> None:
    body = sent(4, strength)
    assert not {"init_image", "strength", "mask_image"} & body.keys()
    assert "custom_sigmas" not in body["sample_params"]
    masked = sent(4, strength, mask=b"a mask")
    assert (masked["strength"], masked["init_image"]) == (1.0, masked["ref_images"][0])

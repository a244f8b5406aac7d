"""Encodes requests to sd-server's native API and decodes its responses: pictures and refusals. Pure."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import httpx

from imagegen.engines.base import DrawRequest, EngineError
from imagegen.engines.sdcpp.prompt import literal

STRENGTH_LEAST = 0.01
"""The sampler divides by the noise level, so there must be some."""


def refusal(answer: httpx.Response) -> str:
    try:
        body = answer.json()
        return f"{body.get('error')} {body.get('message', '')}".strip()
    except (ValueError, AttributeError):
        return f"HTTP {answer.status_code}"


def request_body(request: DrawRequest, loras: Sequence[Mapping[str, object]] = ()) -> bytes:
    """The JSON of `POST /sdcpp/v1/img_gen`. loras: the request's LoRAs, by their names in `--lora-model-dir`.

    sd-server silently ignores unknown fields and fields of a wrong type. So every field has the name and the type that
    `SDGenerationParams::from_json_str` reads, and every field that changes the picture is set explicitly.
    """
    body = deepcopy(request.options)
    sampling: dict[str, Any] = {
        "sample_steps": request.steps,
        "sample_method": request.sampler,
        "guidance": {"txt_cfg": float(request.cfg_scale)},
    }
    if request.scheduler is not None:
        sampling["scheduler"] = request.scheduler
    ours: dict[str, Any] = {
        "prompt": literal(request.prompt),
        "negative_prompt": literal(request.negative),
        "width": request.width,
        "height": request.height,
        "seed": request.seed,
        "batch_count": 1,
        "sample_params": sampling,
        "lora": list(loras),
        "ref_images": [base64.b64encode(picture).decode() for picture in request.references],
        "embed_image_metadata": False,  # the service writes the metadata
        "output_format": "png",
    }
    starts = request.strength is not None and request.strength < 1
    if starts:
        sampling["custom_sigmas"] = _sigmas(max(request.strength or 0.0, STRENGTH_LEAST), request.steps)
    if starts or request.mask is not None:
        # The engine's own strength would count steps of its schedule, which is not even: 0.3 of eight steps was nearly
        # all noise. With 1 it runs all the steps of the request.
        ours |= {"init_image": ours["ref_images"][0], "strength": 1.0}
    if request.mask is not None:  # outside the mask the first reference's latents are kept
        ours |= {"mask_image": base64.b64encode(request.mask).decode()}
    return json.dumps(_merged(body, ours), allow_nan=False).encode()


def _sigmas(first: float, steps: int) -> list[float]:
    """Noise levels of a flow model that starts from a picture with the share `first` of noise, in even steps."""
    return [first * (steps - step) / steps for step in range(steps)] + [0.0]


def _merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Merge two objects field by field; `over` takes precedence."""
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def picture(job: bytes) -> bytes:
    """The picture in a finished job's JSON. Raises EngineError(draw_failed) if the job did not complete."""
    answer = json.loads(job)
    if answer["status"] != "completed":
        raise EngineError("draw_failed", f"The engine ended the picture as {answer['status']}.")
    return base64.b64decode(answer["result"]["images"][0]["b64_json"], validate=True)

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
    if request.mask is not None:
        # Outside the mask the first reference's latents are kept; strength 1 runs all requested steps.
        ours |= {"init_image": ours["ref_images"][0], "strength": 1.0}
        ours |= {"mask_image": base64.b64encode(request.mask).decode()}
    return json.dumps(_merged(body, ours), allow_nan=False).encode()


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

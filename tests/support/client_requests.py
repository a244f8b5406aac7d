"""Requests of clients, copied from their sources (November 2026), for replay.

PICTURE stands for a picture file: bare base64 in JSON, a file in a form. MODEL stands for the name of a model here.
Values that a user sets in the client (size, steps) are small. Hard-wired values are unchanged.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any

PICTURE, DATA_URL, MODEL = "<picture>", "<data url>", "<model>"
DRAW, EDIT, MODELS, PROGRESS, CANCEL = "draw", "edit", "models", "progress", "cancel"

GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"


@dataclass(frozen=True)
class Recorded:
    """One request. does: its purpose. json: the body; otherwise form and files. auth: bearer, basic or none."""

    client: str
    does: str
    path: str
    json: Any = None
    method: str = "POST"
    form: dict[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    auth: str = "bearer"
    host: str = "host.docker.internal:8765"
    typed: bool = True  # False: the body has no Content-Type
    warns: tuple[str, ...] = ()  # codes of the answer's warnings, in any order, each once

    @property
    def name(self) -> str:
        return f"{self.client}: {self.does} {self.path.rpartition('/')[2]}"

    def sent(self, picture: bytes, model: str, token: str) -> dict[str, Any]:
        """The arguments of `httpx.Client.request` after method and path."""
        values = {PICTURE: base64.b64encode(picture).decode(), MODEL: model}
        values[DATA_URL] = f"data:image/png;base64,{values[PICTURE]}"
        headers = {"host": self.host}
        if self.auth == "bearer":
            headers["authorization"] = f"Bearer {token}"
        elif self.auth == "basic":
            headers["authorization"] = "Basic " + base64.b64encode(f"anybody:{token}".encode()).decode()
        sent: dict[str, Any] = {"headers": headers}
        if self.json is not None:
            sent["json"] = _filled(self.json, values)
        if self.form:
            sent["data"] = self.form
            sent["files"] = [(name, ("picture.png", picture, "image/png")) for name in self.files]
        return sent


def _filled(value: Any, values: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _filled(one, values) for name, one in value.items()}
    if isinstance(value, list):
        return [_filled(one, values) for one in value]
    return values.get(value, value) if isinstance(value, str) else value


def _get(client: str, does: str, *lists: str, **more: Any) -> list[Recorded]:
    return [Recorded(client, does, f"/sdapi/v1/{name}", method="GET", **more) for name in lists]


REDUCED, HINT, KEPT = "size_reduced", "hint_without_effect", "background_kept"

WEBUI, WEBUI_SD = "Open WebUI, engine openai", "Open WebUI, engine automatic1111"
TAVERN_SDCPP, TAVERN_SD = "SillyTavern, sdcpp", "SillyTavern, SD Web UI"
LIBRE, LIBRE_SD = "LibreChat, OpenAI image tools", "LibreChat, Stable Diffusion tool"
N8N, LOBE, ANYTHING, OPENCLAW, HOME = (
    "n8n",
    "LobeChat",
    "AnythingLLM, localai",
    "OpenClaw",
    "Home Assistant, local_openai",
)
NEXTCLOUD, NEWELLE, DIFY = "Nextcloud", "Newelle", "Dify, Stable Diffusion tool"

RECORDED: list[Recorded] = [
    Recorded(
        WEBUI,
        DRAW,
        f"{GENERATIONS}?api-version=2024-02-01",
        {"model": "dall-e-2", "prompt": "a red circle", "n": 1, "size": "512x512", "response_format": "b64_json"},
        warns=(REDUCED,),
    ),
    Recorded(
        WEBUI,
        EDIT,
        EDITS,
        form={
            "model": "gpt-image-1", "prompt": "make it blue", "n": "1", "size": "1024x1024", "background": "auto",
        },
        files=("image[]", "image[]"),
        warns=(REDUCED,),
    ),
    *_get(WEBUI_SD, MODELS, "options", "sd-models", auth="basic"),
    Recorded(
        WEBUI_SD,
        MODELS,
        "/sdapi/v1/options",
        {"sd_model_checkpoint": MODEL, "samples_format": "png", "CLIP_stop_at_last_layers": 1},
        auth="basic",
        warns=(HINT,),
    ),
    Recorded(
        WEBUI_SD,
        DRAW,
        "/sdapi/v1/txt2img",
        {"prompt": "a red circle", "batch_size": 1, "width": 512, "height": 512, "steps": 5, "negative_prompt": "hats"},
        auth="basic",
        warns=(REDUCED,),
    ),
    Recorded(TAVERN_SDCPP, MODELS, GENERATIONS, method="OPTIONS", auth="none"),
    Recorded(TAVERN_SDCPP, MODELS, "/v1/models", method="GET"),
    Recorded(
        TAVERN_SDCPP,
        DRAW,
        "/sdapi/v1/txt2img",
        {
            "prompt": "a red circle", "negative_prompt": "hats", "width": 64, "height": 64, "steps": 4, "cfg_scale": 1,
            "seed": -1, "sampler_name": "euler_a", "scheduler": "discrete", "batch_size": 1,
        },
        warns=(HINT,),
    ),
    *_get(TAVERN_SD, MODELS, "options", "sd-models", "samplers", "schedulers", "upscalers", auth="basic"),
    *_get(TAVERN_SD, MODELS, "latent-upscale-modes", "sd-vae", "sd-modules", auth="basic"),
    *_get(TAVERN_SD, PROGRESS, "progress", auth="basic"),
    Recorded(TAVERN_SD, MODELS, "/sdapi/v1/options", {"sd_model_checkpoint": MODEL}, auth="basic"),
    Recorded(
        TAVERN_SD,
        DRAW,
        "/sdapi/v1/txt2img",
        {
            "url": "http://host.docker.internal:8765", "auth": "anybody:secret", "prompt": "a red circle",
            "negative_prompt": "hats", "sampler_name": "Euler a", "scheduler": "Automatic", "steps": 4, "cfg_scale": 1,
            "width": 64, "height": 64, "restore_faces": False, "enable_hr": False, "hr_upscaler": "Latent",
            "hr_scale": 1, "hr_additional_modules": [], "denoising_strength": 0.7, "hr_second_pass_steps": 0,
            "seed": -1, "override_settings": {"CLIP_stop_at_last_layers": 1},
            "override_settings_restore_afterwards": True, "clip_skip": 1, "save_images": True, "send_images": True,
            "do_not_save_grid": False, "do_not_save_samples": False,
        },
        auth="basic",
        warns=(HINT,),
    ),
    Recorded(TAVERN_SD, CANCEL, "/sdapi/v1/interrupt", auth="basic"),
    Recorded(
        LIBRE,
        DRAW,
        GENERATIONS,
        {
            "model": "gpt-image-1", "prompt": "a red circle", "n": 1, "background": "auto", "output_format": "webp",
            "output_compression": 100, "quality": "high", "size": "1536x1024",
        },
        warns=(HINT, REDUCED),
    ),
    Recorded(
        LIBRE,
        DRAW,
        GENERATIONS,
        {
            "model": "gpt-image-1", "prompt": "an icon of a bell", "n": 1, "background": "transparent",
            "output_format": "webp", "output_compression": 100, "quality": "auto", "size": "1024x1024",
        },
        warns=(KEPT, REDUCED),  # the tiny model draws noise
    ),
    Recorded(
        LIBRE,
        EDIT,
        EDITS,
        form={"model": "gpt-image-1", "prompt": "make it blue", "quality": "auto", "size": "auto"},
        files=("image[]",),
    ),
    Recorded(
        LIBRE_SD,
        DRAW,
        "/sdapi/v1/txt2img",
        {
            "prompt": "a red circle", "negative_prompt": "hats", "cfg_scale": 4.5, "steps": 22, "width": 1024,
            "height": 1024,
        },
        auth="basic",
        warns=(REDUCED,),
    ),
    Recorded(
        N8N,
        DRAW,
        GENERATIONS,
        {
            "prompt": "a red circle", "model": "dall-e-3", "response_format": "url", "quality": "hd", "style": "vivid",
            "size": "1024x1792",
        },
        warns=(HINT, HINT, REDUCED),
    ),
    Recorded(
        N8N,
        DRAW,
        GENERATIONS,
        {"prompt": "a red circle", "model": "gpt-image-1-mini", "quality": "medium"},
        warns=(HINT,),
    ),
    Recorded(
        N8N,
        EDIT,
        EDITS,
        form={
            "prompt": "make it blue", "model": "gpt-image-1", "n": "1", "size": "1024x1536", "quality": "auto",
            "input_fidelity": "high", "background": "opaque", "output_format": "png", "user": "somebody",
        },
        files=("image[]",),
        warns=(HINT, REDUCED),
    ),
    Recorded(N8N, MODELS, "/v1/models", method="GET"),
    Recorded(LOBE, DRAW, GENERATIONS, {"model": "gpt-image-1", "prompt": "a red circle", "n": 1, "size": "auto"}),
    Recorded(
        LOBE,
        EDIT,
        EDITS,
        form={"model": "gpt-image-1", "prompt": "make it blue", "n": "1", "input_fidelity": "high"},
        files=("image",),
        warns=(HINT,),
    ),
    Recorded(LOBE, MODELS, "/v1/models", method="GET"),
    Recorded(ANYTHING, DRAW, GENERATIONS, {"model": MODEL, "prompt": "a red circle", "size": "64x64"}),
    Recorded(
        ANYTHING,
        EDIT,
        GENERATIONS,
        {"model": MODEL, "prompt": "make it blue", "size": "64x64", "ref_images": [PICTURE]},
    ),
    Recorded(
        OPENCLAW,
        DRAW,
        GENERATIONS,
        {"model": "gpt-image-1", "prompt": "a red circle", "n": 1, "size": "1536x1024"},
        warns=(REDUCED,),
    ),
    Recorded(
        OPENCLAW,
        EDIT,
        EDITS,
        {
            "model": "gpt-image-1", "prompt": "make it blue", "n": 1, "size": "1024x1536",
            "images": [{"image_url": DATA_URL}],
        },
        warns=(REDUCED,),
    ),
    Recorded(
        HOME, DRAW, GENERATIONS, {"model": "gpt-image-1", "prompt": "a red circle", "response_format": "b64_json"}
    ),
    Recorded(NEXTCLOUD, MODELS, "/v1/models", method="GET"),
    Recorded(
        NEXTCLOUD,
        DRAW,
        GENERATIONS,
        {"prompt": "a red circle", "size": "512x512", "n": 1, "model": "dall-e-2", "user": "somebody"},
        warns=(REDUCED,),
    ),
    Recorded(
        NEWELLE,
        DRAW,
        GENERATIONS,
        {"model": "gpt-image-1", "prompt": "a red circle", "size": "1024x1024"},
        warns=(REDUCED,),
    ),
    *_get(DIFY, MODELS, "sd-models", auth="basic"),
    Recorded(DIFY, MODELS, "/sdapi/v1/options", {"sd_model_checkpoint": MODEL}, auth="basic", typed=False),
    Recorded(
        DIFY,
        DRAW,
        "/sdapi/v1/txt2img",
        {
            "prompt": "a red circle", "negative_prompt": "", "seed": -1, "subseed": -1, "subseed_strength": 0,
            "seed_resize_from_h": -1, "sampler_index": "DPM++ SDE Karras", "seed_resize_from_w": -1, "batch_size": 1,
            "n_iter": 1, "steps": 4, "cfg_scale": 7, "width": 1024, "height": 1024, "restore_faces": False,
            "do_not_save_samples": False, "do_not_save_grid": False, "eta": 0, "denoising_strength": 0,
            "s_min_uncond": 0, "s_churn": 0, "s_tmax": 0, "s_tmin": 0, "s_noise": 0,
            "override_settings": {"sd_model_checkpoint": MODEL}, "override_settings_restore_afterwards": True,
            "refiner_switch_at": 0, "disable_extra_networks": False, "comments": {}, "enable_hr": False,
            "firstphase_width": 0, "firstphase_height": 0, "hr_scale": 2, "hr_second_pass_steps": 0, "hr_resize_x": 0,
            "hr_resize_y": 0, "hr_prompt": "", "hr_negative_prompt": "", "script_args": [], "send_images": True,
            "save_images": False, "alwayson_scripts": {},
        },
        auth="basic",
        typed=False,
        warns=(HINT, REDUCED),
    ),
    Recorded(
        DIFY,
        EDIT,
        "/sdapi/v1/img2img",
        {
            "init_images": [PICTURE], "prompt": "make it blue", "negative_prompt": "", "denoising_strength": 0.9,
            "width": 1024, "height": 1024, "cfg_scale": 7, "sampler_name": "Euler a", "restore_faces": False,
            "steps": 4, "script_args": ["outpainting mk2"], "override_settings": {"sd_model_checkpoint": MODEL},
        },
        auth="basic",
        typed=False,
        warns=(REDUCED,),
    ),
]  # fmt: skip
"""Features that a client lacks are not listed. test_openai.py tests clients that cancel by closing the connection."""

RUN: dict[str, dict[str, str]] = {
    "OpenAI's SDK, Python": {
        DRAW: "test_a_picture_as_base64_and_the_same_one_as_a_url",
        EDIT: "test_edits_take_one_file_several_files_and_a_picture_of_ours",
        MODELS: "test_models_are_listed_found_and_missed",
        PROGRESS: "test_a_stream_has_the_partial_pictures_that_were_asked_for",
    },
    "OpenAI's SDK, Node": {
        **dict.fromkeys((DRAW, EDIT, MODELS), "test_node_clients_draw_edit_and_list"),
        CANCEL: "test_a_node_client_that_aborts_cancels_its_job",
    },
    "Vercel AI SDK": {DRAW: "test_node_clients_draw_edit_and_list"},
    "LiteLLM": dict.fromkeys((DRAW, EDIT), "test_a_python_client_draws"),
    "LangChain": {DRAW: "test_a_python_client_draws"},
    "webuiapi": dict.fromkeys((DRAW, EDIT, MODELS), "test_automatic1111s_python_client"),
    "BentoML's client": dict.fromkeys((DRAW, EDIT, PROGRESS, CANCEL), "test_bentomls_client"),
}
"""Clients that the tests run unmodified, and the names of those tests."""

BY_HAND: dict[str, tuple[str, ...]] = {WEBUI: (DRAW, EDIT), WEBUI_SD: (DRAW, MODELS)}
"""Programs too large for the tests, and what they did with the service when api/open_webui_draw.py was run by hand."""


def table() -> list[str]:
    """The rows of docs/clients.md: client, draw, edit, models, progress, cancel."""
    rows = []
    replayed = {(one.client, one.does) for one in RECORDED}
    for client in [*RUN, *dict.fromkeys(one.client for one in RECORDED)]:
        cells = []
        for does in (DRAW, EDIT, MODELS, PROGRESS, CANCEL):
            if does in RUN.get(client, {}):
                cells.append("run")
            elif (client, does) in replayed:
                cells.append("replayed, run by hand" if does in BY_HAND.get(client, ()) else "replayed")
            else:
                cells.append("not tested")
        rows.append(f"| {client} | {' | '.join(cells)} |")
    return rows

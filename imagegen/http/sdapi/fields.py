"""Maps fields of AUTOMATIC1111's txt2img and img2img to this service's fields. Pure.

Clients send dozens of fields with their defaults. A value without an effect is accepted, with a warning unless it is
the default. A value that requests a picture that the service cannot draw is refused by field name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from imagegen.http import hints
from imagegen.http.hints import EMPTY
from imagegen.images.infotext import SAMPLER_LABELS
from imagegen.schemas import Refused, Warn

USED = frozenset({
    *("prompt", "negative_prompt", "steps", "cfg_scale", "seed", "width", "height", "batch_size", "n_iter"),
    *("sampler_name", "sampler_index", "override_settings", "send_images", "disable_extra_networks"),
    *("init_images", "mask", "resize_mode", "denoising_strength"),
})  # fmt: skip
"""Fields that this service uses."""

SILENT = frozenset({
    *("do_not_save_samples", "do_not_save_grid", "save_images", "override_settings_restore_afterwards", "script_args"),
    *("force_task_id", "comments", "include_init_images", "infotext", "subseed"),
    *("firstphase_width", "firstphase_height", "eta", "s_min_uncond", "s_churn", "s_tmax", "s_tmin", "s_noise"),
    *("seed_resize_from_h", "seed_resize_from_w", "refiner_switch_at", "initial_noise_multiplier", "image_cfg_scale"),
})  # fmt: skip
"""Fields ignored without a warning: files and interface of the web UI, and options that samplers here lack."""

OF_A_MASK = frozenset({
    *("mask_blur", "mask_blur_x", "mask_blur_y", "mask_round", "inpainting_fill", "inpaint_full_res"),
    "inpaint_full_res_padding",
})  # fmt: skip
"""Fields that matter only with a mask. They have no effect; with a mask they cause a warning."""

HINTS: dict[str, tuple[tuple[Any, ...], str]] = {
    "scheduler": ((*EMPTY, "Automatic", "automatic"), "The model brings its own scheduler."),
    "restore_faces": (EMPTY, "There is no face restorer here."),
}
"""Fields without an effect: the values that match the service's behavior, and the warning text for other values."""

REFUSED: dict[str, str] = {
    "styles": "There are no saved styles here. Write the style into the prompt.",
    "tiling": "Pictures that tile cannot be drawn here.",
    "enable_hr": "There is no hires fix here. Ask for a larger size, or enlarge the picture (extra-single-image).",
    "refiner_checkpoint": "There are no refiners here.",
    "subseed_strength": "There are no variations by a second seed here.",
    "inpainting_mask_invert": "Send the mask inverted: white is what may change.",
    "script_name": "There are no scripts here.",
}
"""Fields that, with a value, would require a different picture; the text says what to do."""

FITS = {0: "stretch", 1: "cover", 2: "contain", 3: "stretch"}
"""`fit` by AUTOMATIC1111's `resize_mode`: just resize, crop and resize, resize and fill, latent upscale."""

SCHEDULERS = ("karras", "exponential", "polyexponential", "sgmuniform", "uniform", "simple", "normal", "ddim", "beta")
"""Scheduler names that older clients append to the sampler name: `DPM++ 2M Karras`."""
SAMPLER_NAMES = {"eulerancestral": "euler_a", "dpm2a": "dpm2", "dpm++2sancestral": "dpm++2s_a"}


def model_of(title: str) -> str:
    """The model name in an AUTOMATIC1111 title, which appends a hash: `name [0123abcd]`."""
    return re.sub(r"\s*\[[0-9a-f]{6,64}\]\s*$", "", title.strip())


def sampler_of(name: str, known: Sequence[str]) -> str | None:
    """The sampler in `known` for an AUTOMATIC1111 or k-diffusion name; None if there is none."""
    key = re.sub(r"[^a-z0-9+]", "", name.lower()).replace("dpmpp", "dpm++").removeprefix("k")
    for scheduler in SCHEDULERS:
        if key != scheduler:
            key = key.removesuffix(scheduler)
    names = {re.sub(r"[^a-z0-9+]", "", text.lower()): ours for ours in known for text in (ours, _label(ours))}
    found = names.get(key) or SAMPLER_NAMES.get(key)
    return found if found in known else None


def _label(sampler: str) -> str:
    return SAMPLER_LABELS.get(sampler, sampler)


def checked(fields: Mapping[str, Any]) -> list[Warn]:
    """The warnings for fields without an effect. Raises Refused 422."""
    for name, why in REFUSED.items():
        if fields.get(name) not in EMPTY:
            raise _refused(name, f"{name}={hints.shown(fields[name])} is not possible here. {why}")
    scripts = fields.get("alwayson_scripts")
    if isinstance(scripts, Mapping) and scripts:
        shown = ", ".join(str(name)[:40] for name in list(scripts)[:3])
        raise _refused("alwayson_scripts", f"There are no scripts and extensions here ({shown}). Switch them off.")
    warnings = []
    for name, (fine, why) in HINTS.items():
        if name in fields and fields[name] not in fine:
            warnings.append(hints.without_effect(name, fields[name], why))
    if fields.get("mask"):
        for name in sorted(OF_A_MASK & fields.keys()):
            if fields[name] not in EMPTY:
                warnings.append(hints.without_effect(name, fields[name], "The mask is used as it is."))
    return warnings + hints.unknown(_unknown(fields))


def _unknown(fields: Mapping[str, Any]) -> Iterable[str]:
    settings = fields.get("override_settings")
    more = settings if isinstance(settings, Mapping) else {}
    yield from (f"override_settings.{name}" for name in more if name != "sd_model_checkpoint")
    known = USED | SILENT | OF_A_MASK | HINTS.keys() | REFUSED.keys() | {"alwayson_scripts"}
    yield from (name for name in fields if name not in known and not name.startswith("hr_"))


def _refused(name: str, detail: str) -> Refused:
    return Refused(422, "invalid_request", detail, param=name)

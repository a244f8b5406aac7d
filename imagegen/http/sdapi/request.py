"""Requests of AUTOMATIC1111's txt2img and img2img, parsed and converted to this service's requests."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, StrictStr, ValidationError

from imagegen.app import App
from imagegen.http import hints
from imagegen.http.encoded_pictures import as_data_url
from imagegen.http.problems import invalid
from imagegen.http.sdapi import fields, loras
from imagegen.models.entry import Entry
from imagegen.requests import EditRequest, GenerateRequest
from imagegen.schemas import Refused, Warn


class TextToImage(BaseModel):
    """The fields of txt2img that have an effect; without them the model's own values are used. Others are taken with a
    warning, or refused by name."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    prompt: StrictStr
    negative_prompt: StrictStr | None = None
    width: int | None = None
    height: int | None = None
    steps: int | None = None
    cfg_scale: float | None = None
    seed: int | None = None
    sampler_name: StrictStr | None = None
    sampler_index: StrictStr | None = None
    batch_size: int | None = None
    n_iter: int | None = None
    override_settings: dict[str, Any] | None = None
    send_images: bool | None = None
    disable_extra_networks: bool | None = None

    def named_model(self) -> str | None:
        """The model that the request names, if any."""
        named = (self.override_settings or {}).get("sd_model_checkpoint")
        return named if isinstance(named, str) and named.strip() else None


class ImageToImage(TextToImage):
    """The same for img2img: pictures in base64, as data URLs, or ids of stored ones."""

    init_images: list[StrictStr]
    mask: StrictStr | None = None
    resize_mode: int | None = None
    denoising_strength: float | None = None


R = TypeVar("R", bound=TextToImage)


def read(model: type[R], body: dict[str, Any]) -> tuple[R, list[Warn]]:
    """Parse the request, and return warnings for its fields without an effect. Raises Refused."""
    warnings = fields.checked(body)
    try:
        return model.model_validate(
            {name: value for name, value in body.items() if name in model.model_fields}
        ), warnings
    except ValidationError as error:
        raise invalid(error) from None


def wanted(app: App, asked: TextToImage, chosen: str | None, warnings: list[Warn]) -> GenerateRequest:
    """Convert to this service's request. `chosen`: the model that the caller set in the options.

    Appends to `warnings`. Raises Refused.
    """
    name = asked.named_model() or chosen
    model = None if name is None else app.aliases.model(fields.model_of(name))
    entry = app.catalog.get(model or app.default_entry.name)
    prompt, named = (asked.prompt, []) if asked.disable_extra_networks else loras.taken_out(asked.prompt)
    common: dict[str, Any] = {
        "prompt": prompt,
        "loras": named or None,
        "negative": asked.negative_prompt,
        "width": asked.width,
        "height": asked.height,
        "steps": asked.steps,
        "cfg_scale": asked.cfg_scale,
        "seed": None if asked.seed is None or asked.seed < 0 else asked.seed,
        "sampler": _sampler(asked, entry, warnings),
        "model": model,
        "preview": "auto",  # for `progress`
        "n": (1 if asked.batch_size is None else asked.batch_size) * (1 if asked.n_iter is None else asked.n_iter),
    }
    if not isinstance(asked, ImageToImage):
        return GenerateRequest.model_validate(common)
    if not asked.init_images:
        raise Refused(422, "invalid_request", "init_images is empty: send the picture to start from, in base64.")
    images = [as_data_url(one) for one in asked.init_images]
    mask = as_data_url(asked.mask) if asked.mask else None
    fit = fields.FITS.get(0 if asked.resize_mode is None else asked.resize_mode, "stretch")
    strength = asked.denoising_strength
    if (unused := hints.unused_strength(strength, entry, "denoising_strength")) is not None:
        warnings.append(unused)
        strength = None
    asked.init_images, asked.mask = [], None  # free them: `asked` lives as long as the job
    return EditRequest.model_validate(common | {"images": images, "mask": mask, "fit": fit, "strength": strength})


def _sampler(asked: TextToImage, entry: Entry, warnings: list[Warn]) -> str | None:
    """The sampler's name in this service; None (the model's own) if it is unknown, with a warning."""
    name = asked.sampler_name or asked.sampler_index
    if not name:
        return None
    sampler = fields.sampler_of(name, entry.samplers)
    if sampler is None:
        own = str(entry.defaults.sampler.value)
        warnings.append(hints.without_effect("sampler_name", name, f"{entry.name} draws with its own sampler, {own}."))
    return sampler

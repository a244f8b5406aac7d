"""Checks a request against the model and the operator's limits. Pure.

Every check raises Refused 422.
"""

from __future__ import annotations

from imagegen.admission.sizes import Sizes
from imagegen.images.references import Reference
from imagegen.models.catalog import Catalog
from imagegen.models.entry import Entry
from imagegen.models.entry_tables import SAMPLERS
from imagegen.prompts.guardrails import check_prompt
from imagegen.requests import EditRequest, GenerateRequest
from imagegen.schemas import SEED_MAX, Refused, StoredImage
from imagegen.settings import Settings

STRENGTH_MAX = 5
"""The largest strength of a LoRA in both directions: a choice of this project. Most are used from 0 to 1."""
MASK_SHAPE_TOLERANCE = 0.02
"""The largest relative difference between the aspect ratios of a mask and its picture, from rounding small sizes."""


def check(request: GenerateRequest, entry: Entry, caps: Settings, catalog: Catalog) -> None:
    """Check everything except the pictures. Raises Refused 422.

    catalog: lists the models that edit, for the error message if `entry` does not.
    """
    _check_texts(request, caps)
    _check_size(request, entry, caps)
    _check_numbers(request, caps)
    _check_choices(request, entry)
    _check_loras(request, entry, caps)
    _check_kind(request, entry, caps, catalog)


def _check_texts(request: GenerateRequest, caps: Settings) -> None:
    check_prompt(request.prompt, caps.max_prompt_chars)
    if request.negative and request.negative.strip():
        check_prompt(request.negative, caps.max_prompt_chars, "negative prompt")


def _check_size(request: GenerateRequest, entry: Entry, caps: Settings) -> None:
    sizes = Sizes.of(entry, caps.max_dimension)
    for name, side, sides in (("width", request.width, sizes.width), ("height", request.height, sizes.height)):
        if side is not None and side not in sides:
            detail = f"{name} is {short(side)}; {entry.name} takes {sides}."
            raise Refused(422, "size_out_of_range", detail, param=name)


def _check_numbers(request: GenerateRequest, caps: Settings) -> None:
    _within("steps", request.steps, 1, caps.max_steps)
    _within("seed", request.seed, 0, SEED_MAX, "Leave seed out for a random one.")
    _within("n", request.n, 1, caps.max_n)
    _within("cfg_scale", request.cfg_scale, 0, 30)
    check_lease(request.lease_s)
    if request.draft and request.n != 1:
        raise Refused(422, "invalid_request", f"n is {request.n}; a draft is one picture.", param="n")


def _check_choices(request: GenerateRequest, entry: Entry) -> None:
    if request.sampler is not None and request.sampler not in entry.samplers:
        if request.sampler in SAMPLERS:
            detail = f"{entry.name} brings its own sampler and takes no other. Leave sampler out."
            raise Refused(422, "not_supported_by_model", detail)
        names = ", ".join(entry.samplers)
        raise Refused(422, "invalid_request", f"sampler must be one of {names}.")
    if request.speed == "fast" and (reason := entry.no_fast) is not None:
        detail = f"{entry.name} has no fast setting. {reason} Leave speed out."
        raise Refused(422, "not_supported_by_model", detail)


def _check_loras(request: GenerateRequest, entry: Entry, caps: Settings) -> None:
    loras = request.loras or []
    if not loras:
        return
    if entry.adapter != "sdcpp":
        raise Refused(422, "not_supported_by_model", f"{entry.name} takes no LoRAs. Leave loras out.", param="loras")
    if len(loras) > caps.max_loras:
        detail = f"loras has {len(loras)} entries; at most {caps.max_loras} are taken (IMAGEGEN_MAX_LORAS)."
        raise Refused(422, "invalid_request", detail, param="loras")
    for index, one in enumerate(loras):
        _within(
            f"loras.{index}.strength",
            one.strength,
            -STRENGTH_MAX,
            STRENGTH_MAX,
            "1 is the strength it was trained with.",
        )


def _check_kind(request: GenerateRequest, entry: Entry, caps: Settings, catalog: Catalog) -> None:
    if isinstance(request, EditRequest):
        if not entry.capabilities.edit:
            raise Refused(422, "not_supported_by_model", f"{entry.name} draws from words only. {_editors(catalog)}")
        most = min(caps.max_references, entry.capabilities.max_references)
        if len(request.images) > most:
            raise Refused(
                422,
                "invalid_request",
                f"images has {len(request.images)} entries; at most {most} are taken.",
            )
        _within("strength", request.strength, 0, 1)
        if request.strength is not None and not entry.capabilities.strength:
            detail = f"{entry.name} takes its pictures as references and has no strength. Leave it out."
            raise Refused(422, "strength_not_supported", detail, param="strength")
        if request.mask is not None and not entry.capabilities.mask:
            raise Refused(422, "not_supported_by_model", f"{entry.name} takes no mask. Leave it out.")
    elif not entry.capabilities.draw:
        raise Refused(422, "not_supported_by_model", f"{entry.name} only edits pictures: send images too.")


def _editors(catalog: Catalog) -> str:
    names = [name for name in catalog.names() if catalog.get(name).capabilities.edit]
    return f"Models that edit: {', '.join(names)}."


def check_key(key: str) -> None:
    """Raise Refused unless the Idempotency-Key is 1 to 128 printable ASCII characters."""
    if not (1 <= len(key) <= 128 and key.isascii() and key.isprintable()):
        raise Refused(422, "invalid_request", "Idempotency-Key must be 1 to 128 printable ASCII characters.")


def check_lease(lease_s: float | None) -> None:
    """Refuse a lease outside 5 to 3600 seconds."""
    _within("lease_s", lease_s, 5, 3600)


def check_shape(mask: StoredImage | Reference, picture: StoredImage | Reference) -> None:
    """Refuse a mask whose aspect ratio differs from its picture's, because it would cover the wrong area."""
    if abs(mask.width * picture.height / (mask.height * picture.width) - 1) > MASK_SHAPE_TOLERANCE:
        sizes = f"{mask.width}x{mask.height} pixels, and the first picture {picture.width}x{picture.height}"
        raise Refused(422, "bad_image", f"The mask has {sizes}: send a mask of the picture's own shape.")


def check_aspect(entry: Entry, width: int, height: int) -> None:
    """Refuse an edit whose aspect ratio the engine would refuse only after loading the model."""
    most = entry.edit_max_aspect
    if most is not None and max(width, height) > most * min(width, height):
        detail = (
            f"An edit by {entry.name} may be {most:g} times as long one way as the other at most, and this would be "
            f"{width}x{height}. Ask for a width and a height that are nearer to each other."
        )
        raise Refused(422, "size_out_of_range", detail)


def _within(name: str, value: float | None, low: float, high: float, advice: str = "") -> None:
    if value is not None and not low <= value <= high:
        detail = f"{name} is {short(value)}; {low} to {high} is allowed. {advice}".rstrip()
        raise Refused(422, "invalid_request", detail, param=name)


def short(value: float) -> str:
    text = str(value)
    return text if len(text) <= 24 else text[:20] + "…"

"""Maps OpenAI's parameters and its clients' variants to this service's fields. Pure.

Tolerant (the default): a field without an effect becomes a warning, a synonym becomes this service's own field.
Strict (IMAGEGEN_STRICT_OPENAI=1): both are refused. Both modes refuse a value that requests a picture that the service
cannot draw.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from imagegen.http import hints
from imagegen.http.hints import EMPTY
from imagegen.schemas import Refused, Warn

IGNORED = ("user", "safety_identifier")
"""End-user ids for OpenAI's abuse reports. Ignored without a warning."""

FIXED: dict[str, tuple[tuple[Any, ...], str]] = {
    "quality": (("auto", "standard"), "There are no levels of quality; choose steps or speed (extra fields)."),
    "style": ((), "Describe the style in the prompt instead."),
    "background": (("auto", "opaque"), "Choose transparent, or leave it out."),
    "moderation": (("auto",), "The operator's policy applies to every picture: see /api/policy."),
    "input_fidelity": ((), "The model takes references as they are. Leave it out."),
    "complexity": ((), "There is no planning before a picture here. Leave it out."),
    "frame_count": ((1, "1"), "There are no animations here."),
    "frame_duration_ms": ((), "There are no animations here."),
    "svg": ((), "There are no vector drawings here."),
    "markup": ((), "Say in the prompt what to change."),
}
"""Parameters without an effect, but for `_has_effect`: the values that match the service's behavior, and advice for
other values."""

ANOTHER_PICTURE: dict[str, Callable[[Any], bool]] = {
    "frame_count": lambda _: True,
    "svg": bool,
    "markup": bool,
}
"""Values of FIXED that would require a different picture. Both modes refuse them."""

REFUSED = {
    "lora": 'LoRAs are chosen by loras=[{"name": …, "strength": …}] (an extra field).',
    "controlnet": "There is no ControlNet here.",
    "control_image": "There is no ControlNet here.",
}
"""Fields of other services that, with a value, would require a different picture."""

SYNONYMS = {"negative_prompt": "negative", "num_inference_steps": "steps", "guidance_scale": "cfg_scale"}
PICTURES = ("image", "image[]", "images", "images[]", "ref_images", "ref_images[]")
"""Field names that clients use for the pictures of an edit."""
EXTENSIONS = {"jpg": "jpeg"}


def settled(fields: dict[str, Any], known: Collection[str], strict: bool) -> tuple[dict[str, Any], list[Warn]]:
    """Reduce `fields` to the request model's own, and return warnings for the others. `known`: the model's field names.

    In strict mode unknown fields are kept for the model to refuse. Raises Refused 400.
    """
    left, warnings = {name: value for name, value in fields.items() if name not in IGNORED}, list[Warn]()
    for name, (fine, why) in FIXED.items():
        if _has_effect(name, left.get(name), strict):
            continue
        value = left.pop(name, None)
        if value is None or value in fine:
            continue
        if strict or ANOTHER_PICTURE.get(name, lambda _: False)(value):
            shown = str(value)[:40]
            raise wrong(name, "unsupported_value", f"{name}={shown!r} is not possible here. {why}")
        warnings.append(hints.without_effect(name, value, why))
    if strict:
        if named := sorted(left.keys() & {"width", "height"}):
            raise wrong(named[0], "unknown_parameter", f"Unknown parameter: '{named[0]}'.")
        return left, warnings
    for name, why in REFUSED.items():
        if left.pop(name, None) not in EMPTY:
            raise wrong(name, "unsupported_value", f"{name} is not possible here. {why} Leave it out.")
    if left.get("loras") in EMPTY:
        left.pop("loras", None)
    if split := next((name for name in left if name.startswith("loras[")), None):
        raise wrong("loras", "invalid_value", f"{split[:40]!r} cannot be read: send loras as one field, as JSON text.")
    for name, ours in SYNONYMS.items():
        _take_synonym(left, name, ours)
    if left.get("seed") in (-1, "-1"):
        del left["seed"]
    if isinstance(fmt := left.get("output_format"), str):
        left["output_format"] = EXTENSIONS.get(fmt, fmt)
    warnings += hints.unknown(left.keys() - set(known))
    return {name: value for name, value in left.items() if name in known}, warnings


def _has_effect(name: str, value: Any, strict: bool) -> bool:
    """Whether this value of a field of FIXED is one of this service's own."""
    return (name == "background" and value == "transparent") or (name == "quality" and value == "low" and not strict)


def _take_synonym(fields: dict[str, Any], name: str, ours: str) -> None:
    """Rename a field. Raises Refused if both names are present with different values."""
    value = fields.pop(name, None)
    if value is None:
        return
    if fields.get(ours, value) not in (value, None):
        raise wrong(name, "invalid_value", f"{name} and {ours} mean the same, and have two values. Send one of them.")
    fields[ours] = value


def wrong(param: str | None, code: str, detail: str) -> Refused:
    """Refused 400 that names OpenAI's parameter."""
    return Refused(400, code, detail, param=param)

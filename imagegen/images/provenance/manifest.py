"""What a manifest says of a picture. Pure: values of a job become C2PA's JSON (specification 2.2, 18.15 actions).

A manifest has the generator with its version; `imagegen.drawing` has model, seed and, if the operator wants it in the
file, the prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from imagegen import __version__

NEWSCODES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
GENERATED = f"{NEWSCODES}trainedAlgorithmicMedia"
EDITED = f"{NEWSCODES}compositeWithTrainedAlgorithmicMedia"
ENHANCED = f"{NEWSCODES}algorithmicallyEnhanced"
DRAWING = "imagegen.drawing"
GENERATOR = "imagegen"

Made = Literal["drawn", "edited", "enhanced", "converted"]
"""drawn: by a model, from text. edited: by a model, from pictures. enhanced: enlarged by a network. converted: another
format or a smaller size of a drawn picture."""

_DONE: Mapping[Made, tuple[str, str | None]] = {
    "drawn": ("c2pa.created", GENERATED),
    "edited": ("c2pa.edited", EDITED),
    "enhanced": ("c2pa.edited", ENHANCED),
    "converted": ("c2pa.transcoded", None),
}


@dataclass(frozen=True)
class Facts:
    """How a picture was made. `details`: model, seed, prompt, as far as the file may say them. `sources`: PNG files."""

    made: Made
    details: Mapping[str, str | int]
    sources: Sequence[bytes] = ()


def definition(facts: Facts, media_type: str) -> dict[str, Any]:
    """The manifest to sign. Its ingredients, `ingredient(0)` and so on, are added by the signer."""
    action, source_type = _DONE[facts.made]
    done: dict[str, Any] = {"action": action, "softwareAgent": {"name": GENERATOR, "version": __version__}}
    if source_type is not None:
        done["digitalSourceType"] = source_type
    opened = [{"action": "c2pa.opened", "parameters": {"ingredientIds": [label(0)]}}] if facts.sources else []
    assertions: list[dict[str, Any]] = [{"label": "c2pa.actions", "data": {"actions": [*opened, done]}}]
    if facts.details:
        assertions.append({"label": DRAWING, "data": dict(facts.details)})
    return {
        "claim_generator_info": [{"name": GENERATOR, "version": __version__}],
        "title": "picture",
        "format": media_type,
        "assertions": assertions,
    }


def ingredient(number: int) -> dict[str, str]:
    """The first picture is what was opened and changed; further ones were looked at."""
    relation = "parentOf" if number == 0 else "inputTo"
    return {"title": f"source {number + 1}", "relationship": relation, "label": label(number)}


def label(number: int) -> str:
    return f"source{number}"

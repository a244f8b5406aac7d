"""The parts of a GLM-Image repository, and which of them are missing. Reads only file names and indexes."""

from __future__ import annotations

import json
from pathlib import Path

INDEX = "model_index.json"
WEIGHTED = ("vision_language_encoder", "text_encoder", "transformer", "vae")
"""The parts with weights, in loading order."""


def missing(folder: Path) -> list[str]:
    """The parts that the index of the repository in `folder` names and that are missing: `vae`, `weights of vae`, or
    a file of weights. Weights are not read."""
    if not (folder / INDEX).is_file():
        return [INDEX]
    try:
        index = json.loads((folder / INDEX).read_text())
        parts = [name for name, made_by in index.items() if isinstance(made_by, list) and made_by[0] is not None]
    except (OSError, ValueError, AttributeError, IndexError):
        return [f"readable {INDEX}"]
    lacking = []
    for part in dict.fromkeys([*parts, *WEIGHTED]):
        if not any(path.is_file() for path in (folder / part).glob("*")):
            lacking.append(part)
        elif part in WEIGHTED:
            lacking += _missing_weights(folder / part)
    return lacking


def _missing_weights(part: Path) -> list[str]:
    """The missing weights of a part: one file, or several that an index in the same folder names."""
    if not any(part.glob("*.safetensors")):
        return [f"weights of {part.name}"]
    named: set[str] = set()
    for index in part.glob("*.safetensors.index.json"):
        try:
            named |= set(json.loads(index.read_text())["weight_map"].values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return [f"readable {index.name} of {part.name}"]
    return [f"{part.name}/{name}" for name in sorted(map(str, named)) if not (part / str(name)).is_file()]

"""What a model from a small world can draw, and whether a prompt names any of it. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from imagegen.schemas import Warn

Things = Sequence[Sequence[str]]
"""Each thing with its names, singular and plural, the usual one first."""


def unknown_subject(model: str, things: Things, prompt: str) -> Warn | None:
    """`unknown_subject`: the prompt names none of the things that `model` knows."""
    words = re.findall(r"[^\W_]+", prompt.lower())
    said = f" {' '.join(words)} "
    if any(f" {name} " in said for names in things for name in names):
        return None
    known = ", ".join(names[0] for names in things)
    return Warn(
        code="unknown_subject",
        detail=f"{model} draws simple clip-art only, and nothing that this prompt names is among what it knows, so the "
        f"picture will show something else. It knows: {known}.",
    )

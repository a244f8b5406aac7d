"""Warnings for a model with a small vocabulary, when a prompt asks for something that it cannot draw. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from imagegen.schemas import Warn

Things = Sequence[Sequence[str]]
"""The names of each thing, singular and plural, the usual name first."""
_ADDED = re.compile(
    r"\b(?:add|insert|include|put|place)\s+(.+?)"
    r"(?=$|[.,;:!?\"'()\n]|\s(?:and|to|in|into|on|onto|at|with|above|below|over|under|beside|behind|near|next)\b)",
    re.IGNORECASE,
)
_NO_THING = {"it", "them", "this", "that", "these", "those", "one", "ones", "more", "background", "color", "colour"}
"""Last words of a phrase that name no thing."""

STYLES = (
    "photo", "photos", "photograph", "photographic", "photorealistic", "photoreal", "realistic", "hyperrealistic",
    "painting", "painted", "watercolor", "watercolour", "gouache", "impressionist", "charcoal", "pencil", "engraving",
    "3d", "render", "rendered", "isometric", "anime", "manga", "comic", "pixel art", "cinematic", "mosaic", "collage",
)  # fmt: skip
"""Words for styles other than flat clip-art, from prompts for other models and from the templates."""
_WRITTEN = re.compile(r'"[^"\n]*\w[^"\n]*"|“[^”\n]*\w[^”\n]*”')

CANNOT_DRAW = frozenset({"unknown_subject", "unknown_style", "text_unreadable"})
"""Codes of the warnings that the picture will not show what the prompt asks for."""


def unknown_subject(model: str, things: Things, prompt: str) -> Warn | None:
    """`unknown_subject`: the prompt names none of the things that `model` knows."""
    if _names(things, prompt):
        return None
    return _told(model, things, "nothing that this prompt names is among what it knows")


def unknown_addition(model: str, things: Things, instruction: str) -> Warn | None:
    """`unknown_subject`: an edit adds something ("add a giraffe") that `model` does not know.

    Checks only the first thing after "add", "put" and the like: in "add a star and a giraffe" only the star.
    """
    for phrase in _ADDED.findall(instruction):
        words = _words(phrase)
        if words and words[-1] not in _NO_THING and not _names(things, phrase):
            return _told(model, things, f'"{" ".join(words)}" is not among what it knows')
    return None


def unknown_style(model: str, prompt: str) -> Warn | None:
    """`unknown_style`: the prompt names a style other than flat clip-art, the only style of such a model."""
    named = _named(STYLES, prompt)
    if named is None:
        return None
    return Warn(
        code="unknown_style",
        detail=f'{model} draws flat clip-art only, and this prompt says "{named}": the picture will be flat clip-art.',
    )


def unreadable_text(model: str, prompt: str) -> Warn | None:
    """`text_unreadable`: the prompt has words in quotation marks, which ask for text in the picture."""
    if _WRITTEN.search(prompt) is None:
        return None
    return Warn(
        code="text_unreadable",
        detail=f"{model} cannot write words that people can read: the letters will be scribbles.",
    )


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


def _names(things: Things, text: str) -> bool:
    return _named([name for names in things for name in names], text) is not None


def _named(names: Sequence[str], text: str) -> str | None:
    """The first of `names` that the text contains as whole words."""
    said = f" {' '.join(_words(text))} "
    return next((name for name in names if f" {name} " in said), None)


def _told(model: str, things: Things, what: str) -> Warn:
    known = ", ".join(names[0] for names in things)
    return Warn(
        code="unknown_subject",
        detail=f"{model} draws simple clip-art only, and {what}, so the picture will show something else. "
        f"It knows: {known}.",
    )

"""The sentence that asks for a plain background, which can be cut out after drawing. Pure.

It names a colour: without one, models choose different colours for different parts. It names nothing to leave out,
because a model draws the nouns it reads.
"""

from __future__ import annotations

import re

SENTENCE = "The subject stands alone and whole on a plain {colour} background, with space on all sides."
USUAL, FOR_WHITE = "white", "light blue"
"""The background's colour, and that for a subject which may be white."""
OWN = "The background is plain, of one flat colour, with space on all sides."
"""For a prompt that says which background it wants."""

_NAMES_A_BACKGROUND = re.compile(r"\b(?:background|backdrop)\b", re.IGNORECASE)
_WHITE = re.compile(r"\bwhite\b", re.IGNORECASE)


def plain_background(prompt: str) -> str:
    """The sentence for this prompt."""
    if _NAMES_A_BACKGROUND.search(prompt):
        return OWN
    return SENTENCE.format(colour=FOR_WHITE if _WHITE.search(prompt) else USUAL)

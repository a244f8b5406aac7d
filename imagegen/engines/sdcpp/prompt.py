"""Escapes a prompt for stable-diffusion.cpp, so that its text encoder gets every character as plain text.

The engine parses a prompt as the "attention" notation of SD-WebUI, on every API and for every text encoder
(`parse_prompt_attention` in its util.cpp). Round brackets and a `:weight)` raise a word's weight and are removed.
Square brackets lower it and are removed. BREAK gets the weight -1, also inside OUTBREAK.

The parser has bugs. `(a:.)` and a weight of 60 digits end the process (std::stof throws). A run of about 26,000 bytes
without notation ends it too, because std::regex recurses once per byte; the limit is 6,000 bytes if the stack limit is
"unlimited", which means 2 MiB per thread. The tokenizers also read their control tokens, such as <|im_end|>, in a
prompt.
"""

from __future__ import annotations

import re

RUN_MAX_CHARS = 200
"""At most 800 bytes per run; 6,000 are safe on the smallest stack."""

_NOTHING = "(:1)"  # an empty group of weight 1: no text, no effect
_APART = ":1.0000001)"  # a weight that is not 1 as a 32-bit float: the parser does not join this piece to the next

_PLAIN = {
    "(": r"\(",
    "\\": r"(\:1)",
    ":": "(::1)",
    "BREAK": f"B{_NOTHING}REAK",
    "[": rf"(\[{_APART}",
    "<": f"(<{_APART}",
}
# ")" and "]" are plain text without an open bracket, and no bracket stays open. ":" is plain text unless a weight and
# ")" follow it.
_NOTATION = re.compile(r"[(\\\[]|:(?=[+-]?[.0-9]+\))|BREAK|<(?=[|/A-Za-z])")


def literal(text: str) -> str:
    """Escape `text` in the engine's notation: its text encoder gets `text` with weight 1 throughout.

    Exception: "[" arrives as a backslash and "[", because the engine keeps the backslash of its own escape and has no
    other notation for "[". The result is at most 14 times as long as `text`.
    """
    runs = (text[start : start + RUN_MAX_CHARS] for start in range(0, len(text), RUN_MAX_CHARS))
    return _NOTHING.join(_NOTATION.sub(lambda found: _PLAIN[found[0]], run) for run in runs)

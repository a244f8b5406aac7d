"""A prompt as stable-diffusion.cpp has to be given it, so that its model reads every character as plain text.

The engine reads a prompt as the "attention" notation of SD-WebUI, on every API and for every text encoder
(`parse_prompt_attention` in its util.cpp): round brackets and a `:weight)` raise a word's weight and vanish, square
brackets lower it and vanish, BREAK gets the weight -1, also inside OUTBREAK. Bugs come with it:
`(a:.)` and a weight of 60 digits end the process (std::stof throws), and so does a run of about 26,000 bytes without
notation (std::regex recurses once a byte; 6,000 where the stack limit is "unlimited", which means 2 MiB a thread).
Its tokenizers read their own control marks, such as <|im_end|>, in a prompt as well.
"""

from __future__ import annotations

import re

RUN_MAX_CHARS = 200
"""At most 800 bytes a run, of the 6,000 that are safe on the smallest stack."""

_NOTHING = "(:1)"  # an empty group of weight 1: no text, no effect
_APART = ":1.0000001)"  # a weight that is not 1 in 32 bits keeps a piece from being joined to the next again

_PLAIN = {
    "(": r"\(",
    "\\": r"(\:1)",
    ":": "(::1)",
    "BREAK": f"B{_NOTHING}REAK",
    "[": rf"(\[{_APART}",
    "<": f"(<{_APART}",
}
# ")" and "]" are plain where nothing is open, and nothing ever is; ":" is where no weight and ")" follow it.
_NOTATION = re.compile(r"[(\\\[]|:(?=[+-]?[.0-9]+\))|BREAK|<(?=[|/A-Za-z])")


def literal(text: str) -> str:
    """`text` in the engine's notation for itself: what its text encoder gets is `text`, all of weight 1.

    One character is not quite itself: "[" arrives as a backslash and "[", because the engine has no notation for
    it alone (it keeps the backslash of its own escape). At most 14 times as long as `text`.
    """
    runs = (text[start : start + RUN_MAX_CHARS] for start in range(0, len(text), RUN_MAX_CHARS))
    return _NOTHING.join(_NOTATION.sub(lambda found: _PLAIN[found[0]], run) for run in runs)

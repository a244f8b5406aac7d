"""Escapes the model's control tokens in a prompt for GLM-Image's tokenizer. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection

_LIKE_A_TOKEN = re.compile(r"<(?=([^<>]*>))|\[(?=([^\[\]]*\]))")  # consumes one character: tokens may overlap


def literal(prompt: str, tokens: Collection[str]) -> str:
    """`prompt` with a space after the first character of every control token in it.

    `<|image|>` stands for a reference picture and `<sop>32 32<eop>` for a size. The pipeline inserts these tokens
    itself; in a prompt they would make the draw fail or change the picture. Quotation marks are kept: the model writes
    the text between them into the picture.
    """

    def _parted(found: re.Match[str]) -> str:
        return found[0] + " " if found[0] + (found[1] or found[2]) in tokens else found[0]

    return _LIKE_A_TOKEN.sub(_parted, prompt)

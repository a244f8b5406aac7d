"""Plain text as GLM-Image's tokenizer takes it: the model's own control tokens are no text. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection

_LIKE_A_TOKEN = re.compile(r"<[^<>]*>|\[[^\[\]]*\]")


def literal(prompt: str, tokens: Collection[str]) -> str:
    """`prompt` with a space behind the first character of every control token that it spells out.

    `<|image|>` stands for a reference picture and `<sop>32 32<eop>` for a size: in a prompt they would be taken for
    the service's own, and end the picture or draw another one. Quotation marks stay: what is between them is what
    the model writes into the picture.
    """
    return _LIKE_A_TOKEN.sub(lambda found: found[0][0] + " " + found[0][1:] if found[0] in tokens else found[0], prompt)

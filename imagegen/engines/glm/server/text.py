"""Plain text as GLM-Image's tokenizer takes it: the model's own control tokens are no text. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection

_LIKE_A_TOKEN = re.compile(r"<(?=([^<>]*>))|\[(?=([^\[\]]*\]))")  # its first character; what follows may begin another


def literal(prompt: str, tokens: Collection[str]) -> str:
    """`prompt` with a space behind the first character of every control token that it spells out.

    `<|image|>` stands for a reference picture and `<sop>32 32<eop>` for a size: in a prompt they would be taken for
    the service's own, and end the picture or draw another one. Quotation marks stay: what is between them is what
    the model writes into the picture.
    """

    def _parted(found: re.Match[str]) -> str:
        return found[0] + " " if found[0] + (found[1] or found[2]) in tokens else found[0]

    return _LIKE_A_TOKEN.sub(_parted, prompt)

"""Pictures in JSON as clients encode them: data URLs, bare base64, the URL-safe alphabet, line breaks, no padding."""

from __future__ import annotations

import re

LEAST_CHARS = 64
"""No picture file is shorter in base64; ids and names of files are."""
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,15}:")
_PLAIN = str.maketrans({"-": "+", "_": "/", "\r": None, "\n": None, " ": None, "\t": None})
_ODD = ("-", "_", "\r", "\n", " ", "\t")


def as_data_url(text: str) -> str:
    """`text` as `parse_data_url` takes it, if it is base64 of some spelling; anything else as it is.

    Whether it is a picture is not looked at: what cannot be decoded is refused where it is read.
    """
    head, payload = "data:image/png;base64,", text
    if text[:5].lower() == "data:":
        start, comma, _ = text[:256].partition(",")
        if not comma:
            return text
        head, payload = start + comma, text[len(start) + 1 :]
    elif len(text) < LEAST_CHARS or URL.match(text):
        return text
    if any(mark in payload for mark in _ODD):
        payload = payload.translate(_PLAIN)
    return head + payload + "=" * (-len(payload) % 4)

"""Normalizes pictures in JSON: data URLs, bare base64, the URL-safe alphabet, line breaks, missing padding."""

from __future__ import annotations

import re

LEAST_CHARS = 64
"""Every picture file is at least this long in base64; ids and file names are shorter."""
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,15}:")
_PLAIN = str.maketrans({"-": "+", "_": "/", "\r": None, "\n": None, " ": None, "\t": None})
_ODD = ("-", "_", "\r", "\n", " ", "\t")


def as_data_url(text: str) -> str:
    """Convert base64 in any variant to the data URL that `parse_data_url` expects; return other text unchanged.

    Does not check that the data is a picture: the decoder refuses it later.
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

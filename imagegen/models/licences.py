"""Reads from a licence's name on the hub whether it forbids commercial use. Pure."""

from __future__ import annotations

import re

_FORBIDS = re.compile(r"(?:^|[^a-z])nc(?:[^a-z]|$)|non[-_ ]?commercial|research[-_ ]only", re.IGNORECASE)


def forbids_commercial(stated: str) -> bool:
    """Whether the name forbids it, such as cc-by-nc-4.0 or flux-1-dev-non-commercial-license."""
    return _FORBIDS.search(stated) is not None

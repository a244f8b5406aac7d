"""Whether a licence has to be accepted, from the entry and from the licence's name on the hub. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from imagegen.models.weights import Weights

_FORBIDS = re.compile(r"(?:^|[^a-z])nc(?:[^a-z]|$)|non[-_ ]?commercial|research[-_ ]only", re.IGNORECASE)


def forbids_commercial(stated: str) -> bool:
    """Whether the name forbids it, such as cc-by-nc-4.0 or flux-1-dev-non-commercial-license."""
    return _FORBIDS.search(stated) is not None


def question(entry: Weights, stated: Mapping[str, str]) -> str | None:
    """The question that a user must answer before a download; None for a licence known to allow every use.

    stated: by repository, the licence that its page states.
    """
    forbid = [f"{licence} ({repo})" for repo, licence in stated.items() if forbids_commercial(licence)]
    if entry.licence.commercial and not forbid:
        return None
    if forbid:
        which, effect = f"The hub's licence {', '.join(forbid)}", "does not allow commercial use"
    else:
        which = f"The licence of {entry.name} ({entry.licence.name})"
        effect = "does not allow commercial use" if entry.licence.commercial is False else "may limit what you do"
    return f"{which} {effect}. Have you read it, and do you accept it?"

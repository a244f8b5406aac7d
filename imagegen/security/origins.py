"""Origins whose pages may use the service from a browser (CORS): IMAGEGEN_CORS_ORIGINS."""

from __future__ import annotations

import re

from imagegen.settings import SettingsError

ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?", re.ASCII)
"""Scheme, host and port in the format of an Origin header (RFC 6454, 6.2): lower case, without a path."""


class Origins:
    """The origins that the operator allows. Only exact matches count: there are no patterns."""

    def __init__(self, text: str) -> None:
        """text: the setting. Raises SettingsError for an entry that no Origin header could match, and for `*`."""
        given = [one.strip() for one in text.split(",") if one.strip()]
        for origin in given:
            if ORIGIN.fullmatch(origin.lower()) is None:
                raise SettingsError(
                    f"IMAGEGEN_CORS_ORIGINS: {origin[:80]!r} is not an origin. Write scheme, host and port exactly as "
                    "the program sends them, without a path and without a wildcard, separated by commas: "
                    "app://obsidian.md, https://chat.example:3000."
                )
        self._allowed = frozenset(one.lower() for one in given)

    def __bool__(self) -> bool:
        return bool(self._allowed)

    def allows(self, origin: str | None) -> bool:
        """Whether an Origin header names an allowed origin."""
        return origin is not None and origin.lower() in self._allowed

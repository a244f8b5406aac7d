"""IMAGEGEN_CORS_ORIGINS: which entries are origins, and which Origin headers they match."""

from __future__ import annotations

import pytest

from imagegen.security.origins import Origins
from imagegen.settings import SettingsError


@pytest.mark.parametrize(
    ("allowed", "origin", "matches"),
    [
        ("app://obsidian.md", "app://obsidian.md", True),
        ("https://chat.example:3000, http://[::1]:8080", "http://[::1]:8080", True),
        ("chrome-extension://abcdefgh", "chrome-extension://abcdefgh", True),
        ("HTTPS://Chat.Example", "https://chat.example", True),
        ("https://chat.example", "https://chat.example.evil", False),
        ("https://chat.example", "https://chat.example:444", False),
        ("https://chat.example", "http://chat.example", False),
        ("https://chat.example", "null", False),
        ("https://chat.example", None, False),
        ("", "", False),
    ],
)
def test_an_origin_is_compared_whole(allowed: str, origin: str | None, matches: bool) -> None:
    assert Origins(allowed).allows(origin) is matches


@pytest.mark.parametrize(
    "text",
    ["*", "https://*.example", "https://chat.example/", "https://chat.example/x", "chat.example", "null", "://a"],
)
def test_what_is_no_origin_stops_the_start(text: str) -> None:
    with pytest.raises(SettingsError, match="IMAGEGEN_CORS_ORIGINS"):
        Origins(f"https://fine.example, {text}")

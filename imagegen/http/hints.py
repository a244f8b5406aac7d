"""Hints: fields of a request that change no picture here. A tolerant transport takes them with a warning."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from imagegen.schemas import Warn

CODE = "hint_without_effect"
TOLD = 8
"""So many unknown fields are named."""


def without_effect(name: str, value: Any, why: str = "") -> Warn:
    """The warning for a known field whose value changes nothing."""
    return Warn(code=CODE, detail=f"{name}={shown(value)} has no effect here. {why}".rstrip())


def unknown(names: Iterable[str]) -> list[Warn]:
    """The warning for fields that this service does not know; empty without any."""
    listed = sorted(names)
    if not listed:
        return []
    more = f" and {len(listed) - TOLD} more" if len(listed) > TOLD else ""
    fields = ", ".join(repr(name[:64]) for name in listed[:TOLD]) + more
    return [Warn(code=CODE, detail=f"Unknown fields have no effect: {fields}.")]


def shown(value: Any) -> str:
    """A value of the caller's, short enough for a sentence."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:39]}…"

"""Hints: request fields that do not affect the picture. A tolerant API accepts them with a warning."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from imagegen.models.entry import Entry
from imagegen.schemas import Warn

CODE = "hint_without_effect"
EMPTY: tuple[Any, ...] = (None, "", [], {}, False, 0)
"""Values that request nothing, whatever the field."""
TOLD = 8
"""The most unknown fields that a warning lists."""


def without_effect(name: str, value: Any, why: str = "") -> Warn:
    """The warning for a known field whose value has no effect."""
    return Warn(code=CODE, detail=f"{name}={shown(value)} has no effect here. {why}".rstrip())


def unused_strength(value: float | None, entry: Entry, name: str = "strength") -> Warn | None:
    """The warning for a strength that the model does not support; None if there is no strength, or the model does."""
    if value is None or entry.capabilities.strength:
        return None
    return without_effect(name, value, f"{entry.name} takes the picture as a reference, as a whole.")


def unknown(names: Iterable[str]) -> list[Warn]:
    """The warning for unknown fields; an empty list if there are none."""
    listed = sorted(names)
    if not listed:
        return []
    more = f" and {len(listed) - TOLD} more" if len(listed) > TOLD else ""
    fields = ", ".join(repr(name[:64]) for name in listed[:TOLD]) + more
    return [Warn(code=CODE, detail=f"Unknown fields have no effect: {fields}.")]


def shown(value: Any) -> str:
    """A value's repr, shortened to 40 characters."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:39]}…"

"""The memory that a model's pictures took on this machine, for `imagegen models`. Read without a service."""

from __future__ import annotations

from typing import Any

from imagegen.hardware.memory_fit import files_bytes
from imagegen.hardware.memory_mode import GB, MemoryMode
from imagegen.hardware.memory_needs import CPU, MemoryNeed
from imagegen.hardware.needs_table import read_needs
from imagegen.models.entry import Entry
from imagegen.settings import Settings

MODES = [*MemoryMode, CPU]


def memory_needs(entry: Entry, settings: Settings) -> list[dict[str, Any]]:
    """Every measurement, as `GET /api/models` shows it."""
    return [
        {"kind": one.key.kind, "mode": one.key.mode, "pixels": one.pixels, "bytes": one.bytes, "failed": one.failed}
        for one in _needs(entry, settings)
    ]


def took(entry: Entry, settings: Settings) -> str:
    """The largest measurement of the fastest mode that worked here, in a few words."""
    worked = [one for one in _needs(entry, settings) if not one.failed]
    if not worked:
        return "not measured"
    best = min(worked, key=lambda one: (MODES.index(one.key.mode), -one.bytes))
    return f"{best.bytes / GB:.1f} GB {_where(best)}"


def memory_lines(entry: Entry, settings: Settings) -> list[str]:
    """Every measurement as a line; empty if there is none."""
    found = _needs(entry, settings)
    if not found:
        return []
    lines = ["", "Memory, as measured here (pixels of a picture and its references together):"]
    for one in found:
        what = "was too little" if one.failed else _where(one)
        lines.append(f"  {one.key.kind} {one.key.mode:<8} {one.pixels:>9,} px  {one.bytes / GB:.1f} GB {what}")
    return lines


def _needs(entry: Entry, settings: Settings) -> list[MemoryNeed]:
    return read_needs(settings.database, settings.database_url).of(entry.name, files_bytes(entry, settings))


def _where(need: MemoryNeed) -> str:
    return "of RAM" if need.key.mode == CPU else f"of the GPU ({need.key.mode})"

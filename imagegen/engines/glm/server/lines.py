"""The lines by which the engine reports the progress of a load or a picture to its adapter. Pure.

The engine never prints a caller's text, so a caller cannot forge these lines.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from imagegen.engines.tracking import Bar, Event, Mark, Tokens

MAX_COUNT = 10**15  # bytes of a model; a larger number is invalid

_COUNTED = re.compile(r"@(loading|tokens|step) (\d{1,16})/(\d{1,16})", re.ASCII)
_MARKS = {
    "@listening": Mark.LISTENING,
    "@sampling": Mark.SAMPLING_BEGUN,
    "@decoding": Mark.DECODING,
    "@drawn": Mark.DRAW_DONE,
}

LISTENING, SAMPLING, DECODING, DRAWN = _MARKS


@dataclass(frozen=True)
class Loaded:
    """Progress of a load: bytes in memory, total bytes."""

    done: int
    total: int


def loading(done: int, total: int) -> str:
    return f"@loading {done}/{total}"


def tokens(done: int, total: int) -> str:
    return f"@tokens {done}/{total}"


def step(done: int, total: int) -> str:
    return f"@step {done}/{total}"


def complaint(text: str) -> str:
    """A warning or an error for users, on one line."""
    return f"[ERROR] {' '.join(text.split())}"


def parse(line: str) -> Event | Loaded:
    """The event that a line reports; None for a line without meaning for the service."""
    if line in _MARKS:
        return _MARKS[line]
    counted = _COUNTED.fullmatch(line)
    if counted is None:
        return None
    done, total = int(counted[2]), int(counted[3])
    if not 0 <= done <= total <= MAX_COUNT or total == 0:
        return None
    match counted[1]:
        case "loading":
            return Loaded(done, total)
        case "tokens":
            return Tokens(done, total)
        case _:
            return Bar(done, total, None)

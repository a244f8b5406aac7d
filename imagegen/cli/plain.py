"""Text of other users for a terminal: one line, without characters that would control it."""

from __future__ import annotations


def one_line(text: str, most: int | None = None) -> str:
    """The text on one line, at most `most` characters of it. Control characters are spaces."""
    line = " ".join("".join(one if one.isprintable() else " " for one in text).split())
    return line if most is None or len(line) <= most else f"{line[: most - 1]}…"

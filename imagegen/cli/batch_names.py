"""Names of a batch's files: a pattern with fields, `{n:03}-{slug}-{seed}.png`. Pure."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from imagegen.cli.arguments import KINDS

DEFAULT = "{n:03}-{slug}-{seed}.png"
SLUG_CHARS = 40
SAMPLE: dict[str, int | str] = {
    "n": 1,
    "line": 1,
    "i": 1,
    "slug": "a-red-circle",
    "seed": 1,
    "model": "tiny",
    "width": 512,
    "height": 512,
    "job_id": "0" * 32,
}
"""The fields: number of the request, line in the file, number of the picture within its request, words of the prompt,
seed, model, size in pixels, id of the job."""
_WIDTH = re.compile(r"0?[1-9]?[0-9]?")
_SAFE = re.compile(r"[^\w.+-]+")


class BadPattern(ValueError):
    """The pattern cannot be used. The message is a sentence."""


@dataclass(frozen=True)
class Pattern:
    """A checked pattern."""

    text: str

    @classmethod
    def of(cls, text: str) -> Pattern:
        """Raises BadPattern."""
        known = ", ".join(f"{{{name}}}" for name in SAMPLE)
        try:
            parts = list(string.Formatter().parse(text))
        except ValueError:
            raise BadPattern(f"{text!r} has a brace without its partner. Fields are {known}.") from None
        for _, name, width, conversion in parts:
            if name is None:
                continue
            if name not in SAMPLE:
                raise BadPattern(f"{{{name}}} is no field of a file's name. Fields are {known}.")
            if conversion or not _WIDTH.fullmatch(width or ""):
                raise BadPattern(f"After {{{name} only a width of at most two digits may follow, as in {{{name}:03}}.")
        pattern = cls(text)
        sample = pattern.name(SAMPLE)
        if text.endswith(("/", "\\")) or sample.name in {"", ".", ".."}:
            raise BadPattern(f"{text!r} names a folder: write a file's name, such as {DEFAULT}.")
        if sample.suffix.lower() not in KINDS:
            raise BadPattern(f"{text!r}: the name must end in {', '.join(KINDS)}.")
        return pattern

    @property
    def folder(self) -> Path:
        """The part of the folder that is the same for every file."""
        return Path(self.text.partition("{")[0] + "x").parent

    def name(self, values: Mapping[str, int | str | None]) -> Path:
        """The path for these values. A value adds no folder: other characters than those of words become dashes."""
        clean = {name: values.get(name) for name in SAMPLE}
        return Path(self.text.format(**{name: _cleaned(value) for name, value in clean.items()}))


def _cleaned(value: int | str | None) -> int | str:
    if isinstance(value, int):
        return value
    return _SAFE.sub("-", value or "").strip("-.") or "none"


def slug(prompt: str) -> str:
    """The first words of a prompt."""
    return re.sub(r"[^\w]+", "-", prompt.lower())[:SLUG_CHARS].strip("-_") or "picture"


def unused(path: Path, taken: set[Path]) -> Path:
    """The path, numbered if there is such a file or another picture of the batch has that name."""
    found, number = path, 1
    while found in taken or found.exists():
        number += 1
        found = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return found

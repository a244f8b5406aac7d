"""sd-server's command line as the engine at hand spells it: flags are looked up in what its `--help` prints.

Pure. The catalog writes the flags of the source this project builds (May 2026). Upstream renamed some in August
2026: `--qwen-image-zero-cond-t` became `--model-args qwen_image_zero_cond_t=true`, and a model is loaded at the
first picture unless `--eager-load` is given, which would make "ready" a lie.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

_OPTION = re.compile(r"^\s+(-{1,2}[A-Za-z][\w-]*)(?:,\s+(--[A-Za-z][\w-]*))?", re.MULTILINE)
_FLAG = re.compile(r"--?[A-Za-z][\w-]*")

SUCCESSORS = {"--qwen-image-zero-cond-t": ("--model-args", "qwen_image_zero_cond_t=true")}
"""What an older flag without a value became: the flag to look for, and its value."""

EAGER = "--eager-load"

ESSENTIAL = frozenset({"--listen-ip", "--listen-port", "--lora-model-dir", "-t", "--diffusion-model", "--llm"})
"""What the adapter itself passes: a program without these is no sd-server that this service can drive."""


@dataclass(frozen=True)
class Command:
    """Arguments that the engine at hand takes; `lacking`: the flags it has no word for, left out."""

    argv: list[str]
    lacking: tuple[str, ...] = ()


def known_flags(help_text: str) -> frozenset[str]:
    """The flags that a usage text lists, short forms included."""
    return frozenset(flag for pair in _OPTION.findall(help_text) for flag in pair if flag)


def adapt(argv: Sequence[str], known: Collection[str]) -> Command:
    """`argv` in the words of an engine that knows `known`; unchanged if nothing is known of it.

    A flag the engine has under a newer name is translated. One that it lacks is left out with its value, because
    sd-server ends at an unknown flag; but a file's flag stays, because a model without that file is another model.
    """
    if not known:
        return Command(list(argv))
    taken: list[str] = []
    lacking: list[str] = []
    for flag, values in _groups(argv):
        successor = SUCCESSORS.get(flag)
        if successor is not None and successor[0] in known and flag not in known:
            taken += successor
        elif flag in known or not _FLAG.fullmatch(flag) or any(value.startswith("/") for value in values):
            taken += [flag, *values]
        else:
            lacking.append(flag)
    if EAGER in known and EAGER not in taken:
        taken.append(EAGER)
    return Command(taken, tuple(lacking))


def _groups(argv: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Each flag with the values behind it; a negative number is a value."""
    groups: list[tuple[str, list[str]]] = []
    for word in argv:
        if _FLAG.fullmatch(word) or not groups:
            groups.append((word, []))
        else:
            groups[-1][1].append(word)
    return groups

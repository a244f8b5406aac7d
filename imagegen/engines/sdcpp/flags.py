"""Adapts sd-server's command line to the engine in use: flags are looked up in its `--help` output.

Pure. The catalog uses the flags of the source that this project builds (May 2026). Upstream renamed some in August
2026: `--qwen-image-zero-cond-t` became `--model-args qwen_image_zero_cond_t=true`. Since then sd-server loads the model
at the first picture unless `--eager-load` is given; without that flag it would report ready before the load.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

_OPTION = re.compile(r"^\s+(-{1,2}[A-Za-z][\w-]*)(?:,\s+(--[A-Za-z][\w-]*))?", re.MULTILINE)
_FLAG = re.compile(r"--?[A-Za-z][\w-]*")

SUCCESSORS = {"--qwen-image-zero-cond-t": ("--model-args", "qwen_image_zero_cond_t=true")}
"""The successors of renamed flags without a value: the new flag and its value."""

RENAMED_FIELDS = {
    "tile_size_x": "renamed to tile_size_w, in pixels",
    "tile_size_y": "renamed to tile_size_h, in pixels",
}
"""Renamed fields of a request. Their values cannot be translated here: pixels per latent depend on the model."""

EAGER = "--eager-load"

ESSENTIAL = frozenset({
    *("--listen-ip", "--listen-port", "--lora-model-dir", "--lora-apply-mode", "-t", "--diffusion-model", "--llm")
})  # fmt: skip
"""The flags that the adapter itself passes. A program without them is not an sd-server that this service can use."""


@dataclass(frozen=True)
class Command:
    """Arguments that the engine accepts; `lacking`: the omitted flags, which it does not know."""

    argv: list[str]
    lacking: tuple[str, ...] = ()


def known_flags(help_text: str) -> frozenset[str]:
    """The flags that a usage text lists, including short forms."""
    return frozenset(flag for pair in _OPTION.findall(help_text) for flag in pair if flag)


def adapt(argv: Sequence[str], known: Collection[str]) -> Command:
    """Translate `argv` for an engine with the flags `known`; unchanged if `known` is empty.

    A renamed flag is translated. An unknown flag is omitted with its value, because sd-server exits at an unknown flag.
    An unknown flag with a file is kept, because a model without that file would be a different model.
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
    """Each flag with the values that follow it; a negative number is a value."""
    groups: list[tuple[str, list[str]]] = []
    for word in argv:
        if _FLAG.fullmatch(word) or not groups:
            groups.append((word, []))
        else:
            groups[-1][1].append(word)
    return groups
